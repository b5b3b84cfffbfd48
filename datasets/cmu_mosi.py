"""CMU-MOSI and CMU-MOSEI: what people say about films, as features of words, voice and face; how positive it is.

The processed sequences of the Multimodal Transformer's authors, one pickle per alignment, read without trusting it (see
unpickle.py) and kept as memory maps; widths and lengths are read from the file. Their ``vision`` is our ``visual``.

``label``: ``nonneg`` calls a sentiment of exactly 0 positive, as BalanceBenchmark does; ``pos`` calls it negative, as
MultiBench does; ``exclude_zero`` leaves those samples out; ``seven`` and ``three`` are BalanceBenchmark's bins, the
latter in the order negative, positive, neutral. ``normalise``: every feature standardised with train's mean and
deviation over the steps that are not padding, cut off at ten deviations; BalanceBenchmark does not. Samples whose text
is all zero, which MultiBench drops, are kept and counted. Padding is zeros, on the left, and stays zero; no mask of it
is handed on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache as cached
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from typing_extensions import override

import ogm
from datasets.core.base import DataModule, ScanReport
from datasets.core.card import Card
from datasets.core.errors import LabelError, ManifestError, MissingMediaError
from datasets.core.lazy import torch
from datasets.core.paths import raw_folder
from datasets.core.progress import Progress
from datasets.core.recipes import SMALL
from datasets.core.sample_keys import SampleKey, sample_index
from datasets.decode.arrays import finite
from datasets.decode.safe_pickle import read_pickle
from datasets.storage import content
from datasets.storage.cache import Cache, Column, Decoded, RawItem
from datasets.storage.prepared import DecodePlan, Options, Prepared

PARTS = {"train": "train", "val": "valid", "test": "test"}
FIELDS = {"text": "text", "audio": "audio", "visual": "vision"}
DEVIATIONS = 10.0
CLASSES = {
    "nonneg": ("negative", "not negative"),
    "pos": ("not positive", "positive"),
    "exclude_zero": ("negative", "positive"),
    "three": ("negative", "positive", "neutral"),
    "seven": ("-3", "-2", "-1", "0", "+1", "+2", "+3"),
}


class CMUOptions(Options):
    """The arguments of ``cmu_mosi``."""

    aligned: bool = True  # one step per word in all modalities; False: each at its own pace
    label: Literal["nonneg", "pos", "exclude_zero", "three", "seven"] = "nonneg"
    normalise: bool = True


class CMUMOSI(Prepared):
    """See the module. Samples: text, audio and visual, each (L, D), zeros before the first step."""

    name = "cmu_mosi"
    file: ClassVar[str] = "mosi_data"
    modalities = tuple(FIELDS)
    classes: Sequence[str] = CLASSES["nonneg"]
    static = True
    Options = CMUOptions
    card = Card(
        title="CMU-MOSI: opinions on films, 2,199 utterances as features of words, voice and face",
        modalities=("text", "audio", "visual"),
        classes=2,
        size="0.15 GB to download (0.33 GB not aligned), as much prepared",
        licence="research use, by the authors' terms; the videos remain their uploaders' (YouTube)",
        citation="Zadeh, Zellers, Pincus, Morency: MOSI, IEEE Intelligent Systems 2016, arXiv 1606.06259. Processed "
        "sequences: Tsai and others: Multimodal Transformer for Unaligned Multimodal Language Sequences, ACL 2019",
        run_on_cpu="67 s on one core (estimated from its steps, without loading: results/bench/recipes-cpu.json)",
        how_to_get="Get mosi_data.pkl (147 MB; for aligned=false mosi_data_noalign.pkl, 326 MB), the processed "
        "sequences of the Multimodal Transformer's authors, linked from github.com/yaohungt/Multimodal-Transformer (a "
        "Dropbox folder), and put it into data/cmu_mosi/. It is read without trusting it: a pickle that names anything "
        "but arrays is refused.",
        quirks=(
            "A sentiment of exactly 0 is called positive by some codes and negative by others: label=nonneg, pos, "
            "exclude_zero; also label=three and seven.",
            "Features are standardised with train's statistics; BalanceBenchmark does not: normalise=false.",
            "Releases differ in their features (5 or 74 of voice, 20 or 47 of face): widths are read from the file.",
        ),
        raw_files=("mosi_data.pkl|mosi_data_noalign.pkl",),
    )
    training_recipe: ClassVar[Mapping[str, Any]] = {
        **SMALL,
        "encoders": dict.fromkeys(FIELDS, "transformer"),
        "encoder_args": {m: {"width": 64, "layers": 2} for m in FIELDS},
        "optimizer": "adam",
        "lr": 1e-3,
    }
    adaptive_lr: ClassVar[float] = 1e-3

    def __init__(
        self, options: CMUOptions, cache: Cache, part: str, scale: dict[str, tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        self.cache, self.scale, self.classes = cache, scale, CLASSES[options.label]
        rows = cache.rows("sentiment", part)
        sentiment = np.asarray(cache["sentiment"][rows.start : rows.stop])
        kept = np.flatnonzero(sentiment) if options.label == "exclude_zero" else np.arange(len(rows))
        self.rows = rows.start + kept
        self.label_rows = classify(sentiment[kept], options.label)
        self.labels = self.label_rows.tolist()
        self.ids = [cache.facts[part]["ids"][i] for i in kept]
        notes = Counter(cache.facts[part]["notes"]) + Counter(neutral_left_out=len(rows) - len(kept))
        per_class = Counter(self.labels)
        self.report = ScanReport(
            len(rows), len(kept), {name: per_class[i] for i, name in enumerate(self.classes)}, dict(notes)
        )
        self.recipe = {
            **cache.manifest["recipe"],
            "source": cache.manifest["source"],
            "label": options.label,
            "normalise": options.normalise,
        }

    @override
    def load(self, i: int, rng: torch.Generator | None) -> dict[str, torch.Tensor]:
        return {m: x[0] for m, x in self.batch([i]).inputs.items()}

    @override
    def batch(self, keys: Sequence[SampleKey]) -> ogm.Batch:
        index = sample_index(keys).numpy()
        inputs = {}
        for m in self.modalities:
            x = torch.from_numpy(self.cache[m][self.rows[index]])
            if m in self.scale:
                mean, std = self.scale[m]
                step = (x != 0).any(-1, keepdim=True)
                x = ((x - mean) / std).clamp(-DEVIATIONS, DEVIATIONS) * step
            inputs[m] = x
        return ogm.Batch(inputs, torch.from_numpy(self.label_rows[index]), torch.from_numpy(index))

    # ---- preparing
    @classmethod
    def download(cls, base: str | None = None, progress: Progress | None = None) -> str:
        """Nothing: the files lie where only a browser gets them."""
        return "" if cls.raw_available() else cls.card.how_to_get

    @classmethod
    @override
    def storage(cls, options: CMUOptions) -> dict[str, Any]:
        return {"dataset": cls.name, "version": 1, "aligned": options.aligned}

    @classmethod
    def raw_file(cls, options: CMUOptions) -> Path:
        """The pickle that these options are prepared from."""
        return raw_folder(cls.name) / f"{cls.file}{'' if options.aligned else '_noalign'}.pkl"

    @classmethod
    @override
    def scan(cls, options: CMUOptions) -> DecodePlan:
        path = cls.raw_file(options)
        if not path.is_file():
            other = str(not options.aligned).lower()
            raise MissingMediaError(f"{path} is not there: put it there, or say aligned={other} for the other file")
        read = cached(lambda: _content(path))

        def columns() -> dict[str, Column]:
            data = read()
            shapes = {m: data["train"][m].shape[1:] for m in FIELDS}
            number = sum(len(fields["sentiment"]) for fields in data.values())
            filled = {m: Column("<f4", shape, number) for m, shape in shapes.items()}
            filled |= {f"{m}_sums": Column("<f8", (3, shape[-1]), len(PARTS)) for m, shape in shapes.items()}
            return {**filled, "sentiment": Column("<f4", (), number)}

        def decode(item: RawItem) -> Decoded:
            fields, notes, rows = read()[item.key], Counter[str](), {"sentiment": read()[item.key]["sentiment"]}
            for m in FIELDS:
                with np.errstate(over="ignore"):
                    rows[m], odd = finite(fields[m].astype(np.float32), f"{path}: {m} of {item.key}")
                notes += Counter({f"{m}_{kind}": count for kind, count in odd.items()})
                notes[f"{m}_empty"] = int((rows[m] == 0).all((1, 2)).sum())
                rows[f"{m}_sums"] = sums(rows[m])[None]
            return Decoded(rows, {"notes": +notes, "ids": _ids(fields.get("id"), item.key, len(rows["sentiment"]))})

        return DecodePlan([RawItem(*item) for item in cls.sources(options, tuple(PARTS)).items()], columns, decode)

    @classmethod
    @override
    def sources(cls, options: CMUOptions, keys: Sequence[str]) -> Mapping[str, str]:
        return {key: digest for digest in content.digests([cls.raw_file(options)]).values() for key in keys}

    @classmethod
    @override
    def split(cls, options: CMUOptions, cache: Cache) -> DataModule:
        row = cache.rows("text_sums", "train")
        scale = {m: scaling(cache[f"{m}_sums"][row.start]) for m in FIELDS} if options.normalise else {}
        parts = {part: cls(options, cache, part, scale) for part in PARTS}
        absent = [name for name, count in parts["train"].report.per_class.items() if not count]
        if absent:
            raise LabelError(f"{cls.name}: no sample of {', '.join(absent)} is in train; choose another label=")
        return DataModule(**parts)


def _content(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Split -> modality, ``sentiment`` (N,) and perhaps ``id``. Raises ManifestError for anything but that."""
    content_of_file = read_pickle(path)
    splits: dict[str, dict[str, np.ndarray]] = {}
    for part, name_in_file in PARTS.items():
        if lacking := [n for n in (*FIELDS.values(), "labels") if n not in content_of_file.get(name_in_file, {})]:
            raise ManifestError(f"{path}: {name_in_file} has no {', '.join(lacking)}; it is not the processed file")
        fields = content_of_file[name_in_file]
        here = {m: fields[name] for m, name in FIELDS.items()}
        sentiment = fields["labels"]
        for m, x in here.items():
            like = splits["train"][m].shape[1:] if splits else x.shape[1:]
            if (
                x.dtype.kind not in "biuf"
                or x.ndim != 3
                or x.shape[1:] != like
                or len(x) != len(sentiment)
                or not x.size
            ):
                raise ManifestError(
                    f"{path}: {FIELDS[m]} of {name_in_file} is {x.dtype} {x.shape} beside {len(sentiment)} labels; "
                    "expected (N, L, D), alike in all splits"
                )
        if sentiment.dtype.kind not in "biuf" or sentiment.size != len(sentiment) or not (abs(sentiment) <= 3).all():
            raise ManifestError(f"{path}: labels of {name_in_file} are not one number from -3 to 3 for each sample")
        splits[part] = {**here, "sentiment": sentiment.reshape(-1).astype(np.float32)}
        if "id" in fields:
            splits[part]["id"] = fields["id"]
    return splits


def _ids(ids: np.ndarray | None, part: str, number: int) -> list[str]:
    """One name per sample: the first column of theirs with its number, which makes it one of a kind."""
    if ids is None or len(ids) != number or not ids.size:
        return [f"{part} {i}" for i in range(number)]
    names = ids.reshape(number, -1)[:, 0]
    return [f"{n.decode('latin1') if isinstance(n, bytes) else n} {i}" for i, n in enumerate(names)]


def classify(sentiment: np.ndarray, label: str) -> np.ndarray:
    """(N,) from -3 to 3 -> (N,) class numbers, see the module."""
    y = np.asarray(sentiment, dtype=np.float64)
    if label == "three":
        return np.where(y < -0.5, 0, np.where(y > 0.5, 1, 2)).astype(np.int64)
    if label == "seven":  # [-3, -2) [-2, -1) [-1, 0) {0} (0, 1] (1, 2] (2, 3]
        bins: np.ndarray = 3 + np.sign(y) * (1 + (abs(y) > 1) + (abs(y) > 2))
        return bins.astype(np.int64)
    return (y >= 0 if label == "nonneg" else y > 0).astype(np.int64)


def sums(x: np.ndarray) -> np.ndarray:
    """(N, L, D) -> (3, D) float64: how many steps are not padding, and over them the sum and the sum of squares."""
    steps = x.reshape(-1, x.shape[-1])[(x != 0).any(-1).reshape(-1)].astype(np.float64)
    return np.stack([np.full(x.shape[-1], len(steps)), steps.sum(0), np.square(steps).sum(0)])


def scaling(three: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation (D,) from ``sums``; 1 where a feature does not vary."""
    count, total, squares = np.maximum(three, np.array([[1], [-np.inf], [0]]))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return torch.tensor(mean, dtype=torch.float32), torch.tensor(np.where(std < 1e-6, 1, std), dtype=torch.float32)
