"""UCI Multiple Features: 2,000 digits, each as six vectors, from the coarsest shape (6 numbers) to pixels (240).

The views are fou (76 Fourier coefficients of the shape), fac (216 profile correlations), kar (64 Karhunen-Loeve
coefficients), pix (240 averages over windows of 2 x 3 pixels), zer (47 Zernike moments) and mor (6 morphological
features). Each feature is standardised with mean and deviation of the training samples of the very split that is used;
one that does not vary among them is 0. Sums are rounded once (math.fsum), so that no machine has other last bits.

Splits: of each class, by ascending sha256 of ``mfeat-v1|SAMPLE``, the first 20 % are test, of the others the first 10 %
validation. ``folds`` takes parts of ``datasets.core.grouped_splits`` instead, and a comparison takes five, one for each
seed. Who wrote a digit is not published, so writers may be on both sides. Six digits are in the data twice, with equal
numbers in all views: both copies are always in the same part.

``training_recipe`` has the epochs and the learning rate of the other small data sets. They were looked at on validation
alone: over five folds, 10 and 20 epochs at 0.01, 0.02, 0.05 and 0.1 differed by a few samples.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

import ogm
from datasets.core.base import DataModule, ScanReport
from datasets.core.card import Card
from datasets.core.checks import printable, refuse_missing, refuse_pointer
from datasets.core.errors import DataError, LabelError, ManifestError
from datasets.core.files import convert_disk_errors
from datasets.core.grouped_splits import FoldOptions, grouped_split, resplit_options
from datasets.core.lazy import torch
from datasets.core.paths import raw_folder
from datasets.core.progress import Progress
from datasets.core.recipes import SMALL
from datasets.core.sample_keys import SampleKey, sample_index
from datasets.storage import content
from datasets.storage.archives import Archive, fetch_archive
from datasets.storage.cache import Cache, Column, Decoded, RawItem, short_digest
from datasets.storage.list_files import carve
from datasets.storage.prepared import DecodePlan, Options, Prepared
from datasets.storage.unpacking import unpack, unpack_zip

VIEWS = {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}  # name -> how many numbers
SAMPLES, PER_CLASS = 2000, 200  # in the order of the classes
FOLDS = 5
TEST, VAL = 20, 10  # percent of each class: of all, and of what is left
LIMIT = 8 << 20  # bytes of a table; the longest has 2 MB
ARCHIVE = Archive(
    "multiple+features.zip", "https://archive.ics.uci.edu/static/public/72/multiple+features.zip", limit=32 << 20
)
TABLES = re.compile(rf"(?:[^/]+/)*mfeat-(?:{'|'.join(VIEWS)})")


class MFeatOptions(Options, FoldOptions):
    """The arguments of ``mfeat``."""


class MFeat(Prepared):
    """See the module. Samples: each view (1, D)."""

    name = "mfeat"
    modalities = tuple(VIEWS)
    classes = tuple("0123456789")
    static = True
    Options = MFeatOptions
    card = Card(
        title="UCI Multiple Features: 2,000 written digits, each as six vectors of very different worth",
        modalities=("fou", "fac", "kar", "pix", "zer", "mor"),
        classes=10,
        size="5 MB to download, 5 MB prepared",
        licence="CC BY 4.0",
        citation="Duin: Multiple Features, UCI Machine Learning Repository (1998), doi 10.24432/C5HC70",
        how_to_get="`python -m datasets download mfeat` fetches 5 MB (CC BY 4.0) into data/mfeat/. By hand: the six "
        "tables mfeat-fou to mfeat-mor of https://archive.ics.uci.edu/dataset/72 into data/mfeat/, or as CSV "
        "(mfeat-fou.csv: one header row, the label in the last column).",
        preparation="2 s of processor time on one core (measured)",
        run_on_cpu="1.3 s of processor time on one core (measured: median of the vanilla runs of "
        "results/reference/compare-mfeat)",
        quirks=(
            "There are six modalities; a method that takes only two is left out of a comparison, with its reason.",
            "Six digits are in the data twice, with equal numbers in all views; both copies are kept in one part.",
            "It is not published who wrote which digit, so a writer may be in train and in test.",
            "No split is published: ours is a fixed rule, or folds=5 fold=0 split_seed=0. A comparison takes five "
            "folds, one for each seed.",
        ),
        raw_files=(
            "mfeat-fou|mfeat-fou.csv|mfeat/mfeat-fou",
            "mfeat-fac|mfeat-fac.csv|mfeat/mfeat-fac",
            "mfeat-kar|mfeat-kar.csv|mfeat/mfeat-kar",
            "mfeat-pix|mfeat-pix.csv|mfeat/mfeat-pix",
            "mfeat-zer|mfeat-zer.csv|mfeat/mfeat-zer",
            "mfeat-mor|mfeat-mor.csv|mfeat/mfeat-mor",
        ),
    )
    training_recipe: ClassVar[Mapping[str, Any]] = {
        **SMALL,
        "encoders": dict.fromkeys(VIEWS, "mlp"),
        "encoder_args": {view: {"widths": [64, 64]} for view in VIEWS},
    }
    adaptive_lr: ClassVar[float] = 1e-3

    def __init__(
        self, options: MFeatOptions, cache: Cache, rows: Sequence[int], scale: Mapping[str, tuple[Any, Any]]
    ) -> None:
        self.cache, self.rows, self.scale = cache, np.array(rows, dtype=np.int64), scale
        self.ids = [sample_id(row) for row in rows]
        self.labels = [row // PER_CLASS for row in rows]
        self.label_rows = np.array(self.labels, dtype=np.int64)
        self.report = ScanReport(len(rows), len(rows), {name: self.labels.count(int(name)) for name in self.classes})
        self.recipe = {
            **cache.manifest["recipe"],
            "source": cache.manifest["source"],
            "standardised": short_digest({m: [mean.tolist(), factor.tolist()] for m, (mean, factor) in scale.items()}),
            **options.split_recipe(),
        }

    @override
    def batch(self, keys: Sequence[SampleKey]) -> ogm.Batch:
        index = sample_index(keys)
        rows, inputs = self.rows[index.numpy()], {}
        for view, (mean, factor) in self.scale.items():
            inputs[view] = torch.from_numpy((self.cache[view][rows] - mean) * factor).float().unsqueeze(1)
        return ogm.Batch(inputs, torch.from_numpy(self.label_rows[index.numpy()]), index)

    @classmethod
    @override
    def resplit(cls, args: Mapping[str, Any], number: int) -> dict[str, Any]:
        """Five folds, or as many as ``folds`` says, with one ``split_seed`` after the other."""
        return resplit_options(args, FOLDS, number)

    # ---- preparing
    @classmethod
    @override
    def download(cls, base: str | None = None, progress: Progress | None = None) -> str:
        folder = raw_folder(cls.name)
        if not cls.raw_available():
            archive = fetch_archive(ARCHIVE, folder, base, progress)
            part = folder / "unpacked.part"
            try:
                with convert_disk_errors(part):
                    if os.path.lexists(part):
                        shutil.rmtree(part)  # not where it is a link: that would lead what is unpacked somewhere else
                tables = unpack_tables(archive, part, progress)
                for view, table in tables.items():
                    read_view(table, view)
                with convert_disk_errors(folder):
                    for table in tables.values():
                        table.replace(folder / table.name)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        return ""

    @classmethod
    @override
    def storage(cls, options: MFeatOptions) -> dict[str, Any]:
        return {"dataset": "mfeat", "version": 1}

    @classmethod
    @override
    def scan(cls, options: MFeatOptions) -> DecodePlan:
        tables = find_tables(raw_folder(cls.name))
        refuse_missing(
            [f"mfeat-{view}" for view in VIEWS if view not in tables],
            len(VIEWS),
            0,
            f"put them into {raw_folder(cls.name)}, or remove the others and run `python -m datasets download mfeat`",
        )
        columns = {view: Column("<f8", (width,), SAMPLES) for view, width in VIEWS.items()}
        items = [RawItem(*item) for item in cls.sources(options, tuple(VIEWS)).items()]
        return DecodePlan(items, columns, lambda item: Decoded({item.key: read_view(tables[item.key], item.key)}))

    @classmethod
    @override
    def sources(cls, options: MFeatOptions, keys: Sequence[str]) -> Mapping[str, str]:
        tables = find_tables(raw_folder(cls.name))
        digests = content.digests(tables.values())
        return {view: digests[tables[view]] for view in keys if view in tables}

    @classmethod
    @override
    def split(cls, options: MFeatOptions, cache: Cache) -> DataModule:
        values = {view: np.asarray(cache[view]) for view in VIEWS}
        parts = split_rows(np.concatenate(list(values.values()), axis=1), options)
        scale = {view: scaling(x[parts["train"]]) for view, x in values.items()}
        return DataModule(**{name: cls(options, cache, rows, scale) for name, rows in parts.items()})


# ---- files
def find_tables(folder: Path) -> dict[str, Path]:
    """View -> its table, of those that are there: the original one before the CSV."""
    names = {view: (f"mfeat-{view}", f"mfeat/mfeat-{view}", f"mfeat-{view}.csv") for view in VIEWS}
    found = {view: next((p for n in names[view] if (p := folder / n).is_file()), None) for view in VIEWS}
    return {view: path for view, path in found.items() if path}


def unpack_tables(archive: Path, folder: Path, progress: Progress | None) -> dict[str, Path]:
    """The six tables of UCI's archive, which holds them as files or in a tar. Raises DataError."""
    unpack_zip(archive, folder, TABLES, limit=len(VIEWS) * LIMIT, progress=progress)
    tables = find_tables(folder)
    if len(tables) < len(VIEWS):
        for tar in unpack_zip(archive, folder, re.compile(r"(?:[^/]+/)*mfeat\.tar(?:\.gz)?"), limit=64 << 20):
            unpack(tar, folder, TABLES, limit=len(VIEWS) * LIMIT)
        tables = find_tables(folder)
    if missing := [f"mfeat-{view}" for view in VIEWS if view not in tables]:
        raise DataError(
            f"{archive}: {', '.join(missing)} is not in it; put the six tables into {archive.parent} by hand"
        )
    return tables


def read_view(path: Path, view: str) -> np.ndarray:
    """A table of numbers between blanks, or (.csv) a header and numbers between commas with the label at the end.

    Args:
        path: The table.
        view: Its name.

    Returns:
        (2000, D) float64.

    Raises:
        ManifestError: Too large, not 2,000 rows of finite numbers.
        LabelError: A row of the CSV has the label of another class.
    """
    refuse_pointer(path, ManifestError)
    if path.stat().st_size > LIMIT:
        raise ManifestError(f"{path}: has {path.stat().st_size} bytes, more than {LIMIT}; it is not the table")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: is not text ({printable(error)}); get the table again") from error
    labelled = path.suffix == ".csv"
    rows = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()][int(labelled) :]
    if len(rows) != SAMPLES:
        raise ManifestError(f"{path}: has {len(rows)} rows of numbers, expected {SAMPLES}; get the table again")
    values = np.empty((SAMPLES, VIEWS[view] + labelled))
    for row, (number, line) in enumerate(rows):
        fields = line.split("," if labelled else None)
        if len(fields) != values.shape[1]:
            raise ManifestError(f"{path}, line {number}: {len(fields)} fields, expected {values.shape[1]}")
        try:
            values[row] = [float(field) for field in fields]
        except ValueError as error:
            raise ManifestError(f"{path}, line {number}: {printable(error)}; get the table again") from error
        if not np.isfinite(values[row]).all():
            raise ManifestError(f"{path}, line {number}: a number is not finite; get the table again")
        if labelled and values[row, -1] != row // PER_CLASS:
            raise LabelError(
                f"{path}, line {number}: the label is {printable(fields[-1])}, expected {row // PER_CLASS}: the rows "
                f"are in the order of the classes, {PER_CLASS} of each"
            )
    return values[:, : VIEWS[view]]


# ---- samples
def sample_id(row: int) -> str:
    """The name of a sample: its class, and its number among the class's 200."""
    return f"{row // PER_CLASS}-{row % PER_CLASS:03}"


def split_rows(values: np.ndarray, options: MFeatOptions) -> dict[str, list[int]]:
    """The rows of each split, in ascending order; see the module.

    Args:
        values: (2000, D), all views of every sample. Those with equal values are one group.
        options: Which split.
    """
    first = {values[row].tobytes(): row for row in reversed(range(SAMPLES))}
    ids = [sample_id(row) for row in range(SAMPLES)]
    groups = [ids[first[values[row].tobytes()]] for row in range(SAMPLES)]
    if options.folds is not None:
        found = grouped_split([name[0] for name in ids], groups, options)
        return {"train": found.train, "val": found.val, "test": found.test}
    group_of, row_of = dict(zip(ids, groups, strict=True)), {name: row for row, name in enumerate(ids)}
    left, test = carve([(name, row_of[name] // PER_CLASS) for name in ids], TEST, 1, _hashed, group_of.__getitem__)
    train, val = carve(left, VAL, 1, _hashed, group_of.__getitem__)
    return {part: [row_of[name] for name, _ in rows] for part, rows in (("train", train), ("val", val), ("test", test))}


def _hashed(name: str) -> str:
    return f"mfeat-v1|{name}"


def scaling(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) -> mean (D,) and what to multiply with (D,): 1 / deviation, 0 where a feature does not vary."""
    mean = np.array([math.fsum(feature) / len(feature) for feature in values.T.tolist()])
    squares = np.square(values - mean).T.tolist()
    std = np.sqrt([math.fsum(feature) / len(feature) for feature in squares])
    varies = values.max(0) > values.min(0)
    return mean, np.divide(1, std, out=np.zeros_like(std), where=varies & (std > 0))
