"""CG-MNIST: a grey digit, and the same digit in a colour that gives its class away in training and not in the test.

Used for imbalance by PMR (Fan et al., CVPR 2023, arXiv 2211.07089, released code dataset/CGMNIST.py); the colours
follow Kim et al., Learning Not to Learn (CVPR 2019, arXiv 1812.10352): each class has a mean colour; an image is tinted
with its own in training, with that of any of the ten in the test, plus Gaussian jitter of variance 0.03 per channel.

Kim et al. publish the tinted images, not the numbers they drew, in a file that needs pickle; so these are drawn,
from ``data_seed``, with ten mean colours of our own choice. Numbers compare with the papers' in kind, not digit by
digit. The released code picks its epoch on the test set. Here 5,000 images of the training file, by ascending sha256 of
their row, validate; they are tinted as the test is, because a colour that always fits would call every epoch perfect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

import ogm
from datasets.core.base import DataModule, ScanReport
from datasets.core.card import Card
from datasets.core.lazy import torch
from datasets.core.paths import raw_folder
from datasets.core.progress import Progress
from datasets.core.recipes import SMALL
from datasets.core.sample_keys import SampleKey, sample_index
from datasets.storage.cache import Cache, Column, Decoded, RawItem
from datasets.storage.digit_files import download_images, image_sources, scan_images
from datasets.storage.prepared import DecodePlan, Options, Prepared
from ogm.seeds import fold_in

# Red, green, blue, yellow, magenta, cyan, orange, violet, spring green, grey.
COLORS = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255],
     [0, 255, 255], [255, 128, 0], [128, 0, 255], [0, 255, 128], [128, 128, 128]], np.float32
) / 255  # fmt: skip
GRAY_MEAN, GRAY_STD = 0.1307, 0.3081
COLOR_MEAN, COLOR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # CIFAR-10's, as the released code has it
VAL = 1 / 12  # of MNIST's training file


class CGMNISTOptions(Options):
    """The arguments of ``cg_mnist``."""

    color_variance: float = Field(0.03, ge=0, strict=False, allow_inf_nan=False)  # of each channel, from 0 to 1
    data_seed: int = 0
    allow_unpinned: bool = False


class CGMNIST(Prepared):
    """See the module. Samples: gray (1, 28, 28), color (3, 28, 28)."""

    name = "cg_mnist"
    modalities = ("gray", "color")
    classes = tuple("0123456789")
    static = True
    Options = CGMNISTOptions
    card = Card(
        title="CG-MNIST: a grey digit and a coloured one, whose colour tells the class in training alone",
        modalities=("gray", "color"),
        classes=10,
        size="12 MB to download, 55 MB prepared",
        licence="MNIST: CC BY-SA 3.0 (as commonly redistributed)",
        citation="LeCun, Cortes, Burges: The MNIST database of handwritten digits (1998). Kim and others: Learning Not "
        "to Learn, CVPR 2019. Fan and others: PMR, CVPR 2023",
        run_on_cpu="4.7 min on one core (estimated from its steps, without loading: results/bench/recipes-cpu.json)",
        how_to_get="`python -m datasets download cg_mnist` fetches the four MNIST files (12 MB, CC BY-SA 3.0) into "
        "data/cg_mnist/mnist/. Files you have already, such as those of data/avmnist/mnist/, can be put there by hand.",
        quirks=(
            "Colours are drawn here by the papers' rule: their own draws are not published as numbers.",
            "The papers choose their epoch on the test set; here 5,000 training images validate, coloured as the test.",
        ),
        raw_files=("mnist",),
    )
    training_recipe: ClassVar[Mapping[str, Any]] = {**SMALL, "encoders": {"gray": "cnn", "color": "cnn"}}
    adaptive_lr: ClassVar[float] = 1e-3

    def __init__(
        self, options: CGMNISTOptions, cache: Cache, source: str, rows: np.ndarray, color_is_class: bool
    ) -> None:
        self.cache = cache
        first = cache.rows("gray", source)
        digits = torch.from_numpy(cache["digit"][first.start : first.stop].astype(np.int64))
        self.rows = first.start + rows
        self.tints = tints(
            digits, options.color_variance, fold_in(options.data_seed, "cg_mnist", source), color_is_class
        )[rows]
        self.label_rows = digits[rows]
        self.labels = self.label_rows.tolist()
        self.ids = [f"{source}{row}" for row in rows.tolist()]
        self.report = ScanReport(len(rows), len(rows), {name: self.labels.count(int(name)) for name in self.classes})
        self.recipe = {
            **cache.manifest["recipe"],
            "source": cache.manifest["source"],
            "color_variance": options.color_variance,
            "data_seed": options.data_seed,
            "color_tells_class": color_is_class,
        }

    @override
    def batch(self, keys: Sequence[SampleKey]) -> ogm.Batch:
        index = sample_index(keys)
        gray = torch.from_numpy(self.cache["gray"][self.rows[index.numpy()]]).unsqueeze(1) / 255
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (COLOR_MEAN, COLOR_STD))
        color = gray * self.tints[index][..., None, None]
        inputs = {"gray": (gray - GRAY_MEAN) / GRAY_STD, "color": (color - mean) / std}
        return ogm.Batch(inputs, self.label_rows[index], index)

    # ---- preparing
    @classmethod
    @override
    def download(cls, base: str | None = None, progress: Progress | None = None) -> str:
        download_images(raw_folder("cg_mnist"), base, progress)
        return ""

    @classmethod
    @override
    def storage(cls, options: CGMNISTOptions) -> dict[str, Any]:
        return {"dataset": "cg_mnist", "version": 1, "pinned": not options.allow_unpinned}

    @classmethod
    @override
    def scan(cls, options: CGMNISTOptions) -> DecodePlan:
        images = scan_images(raw_folder("cg_mnist") / "mnist", not options.allow_unpinned)
        number = sum(len(labels) for _, labels in images.values())

        def decode(item: RawItem) -> Decoded:
            pixels, labels = images[item.key]
            return Decoded({"gray": pixels, "digit": labels})

        items = [RawItem(*item) for item in cls.sources(options, tuple(images)).items()]
        return DecodePlan(items, {"gray": Column("|u1", (28, 28), number), "digit": Column("|u1", (), number)}, decode)

    @classmethod
    @override
    def sources(cls, options: CGMNISTOptions, keys: Sequence[str]) -> Mapping[str, str]:
        return image_sources(raw_folder("cg_mnist") / "mnist", not options.allow_unpinned)

    @classmethod
    @override
    def split(cls, options: CGMNISTOptions, cache: Cache) -> DataModule:
        size = len(cache.rows("gray", "train"))
        order = sorted(range(size), key=lambda i: hashlib.sha256(f"cg-mnist-v1|{i}".encode()).hexdigest())
        val, train = (np.sort(np.array(rows)) for rows in (order[: round(VAL * size)], order[round(VAL * size) :]))
        return DataModule(
            cls(options, cache, "train", train, True),
            cls(options, cache, "train", val, False),
            cls(options, cache, "t10k", np.arange(len(cache.rows("gray", "t10k"))), False),
        )


def tints(digits: torch.Tensor, variance: float, seed: int, color_is_class: bool) -> torch.Tensor:
    """(N,) digits -> (N, 3) colours from 0 to 1: the digit's own or, unless it ``tells``, that of any of the ten."""
    rng = torch.Generator().manual_seed(seed)
    random_class = torch.randint(len(COLORS), (len(digits),), generator=rng)
    jitter = torch.randn(len(digits), 3, generator=rng) * variance**0.5
    colors: torch.Tensor = torch.from_numpy(COLORS)[digits if color_is_class else random_class] + jitter
    return colors.clamp(0, 1)
