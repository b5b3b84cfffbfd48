"""Small models and data for tests: a run of a few dozen samples, for any strategy, fusion and number of modalities."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.encoders.cnn import CNN
from models.model import MultimodalModel
from models.registry import FUSIONS
from ogm.engine import Engine
from ogm.registry import STRATEGIES, find
from ogm.seeds import fold_in
from ogm.strategy import Strategy
from ogm.types import Batch, EpochSampling

CLASSES, SAMPLES = 4, 60
TWO, THREE = ("audio", "visual"), ("audio", "visual", "text")
# Options without which a method is no method, or (a window that never closes) would not show here.
OPTIONS: dict[str, dict[str, Any]] = {
    "unimodal": {"modality": "visual"},
    "static_lr": {"factors": {"audio": 0.5}},
    "ogm": {"alpha": 0.8},
    "ogm_ge": {"alpha": 0.8},
    "mslr": {"init": {"audio": 0.9}, "memory": 1},
    "mses": {"patience": 0},
    "opm": {"start": 0},
    "ssl_unimodal": {"modality": "visual"},
    "opm_ogm": {"start": 0},
    "reconboost": {"boost_epochs": 1, "rectify_epochs": 1},
    "greedy": {"warmup": 0, "window": 2},
    "modality_valuation": {"warmup": 1},
    "diagnosing_relearning": {"period": 1},
    "gblend": {"super_epoch": 2},
    "midas": {"warmup": 0.0},
    "bss": {"grow": 1.0},  # of 4 epochs
    "miles": {"tau": 0.0},
    "remix": {"warmup": 0.25},
}
# What makes the large fusions small.
FUSION_OPTIONS: dict[str, dict[str, Any]] = {
    "cross_attn": {"width": 8, "layers": 1, "heads": 2},
    "mbt": {"width": 8, "layers": 3, "alone": 1, "bottlenecks": 2, "heads": 2},  # one layer of exchange carries nothing
}
FOUR = ("concat", "sum", "film", "gated")  # every method is tried with these; the others: contract/
NEEDS_EXTRA = {"diagnosing_relearning": "sklearn"}  # where only torch is installed, these are left out
METHODS = [name for name in STRATEGIES if name not in NEEDS_EXTRA or find_spec(NEEDS_EXTRA[name])]
CLASSES_OF = {name: find(name, STRATEGIES, "strategy") for name in METHODS}
TRAINED = [name for name, cls in CLASSES_OF.items() if cls.trains]
JOINT = [name for name in TRAINED if name != "unimodal"]
WINDOWED = [name for name, cls in CLASSES_OF.items() if "start" in inspect.signature(cls).parameters]


def samples(modalities: tuple[str, ...], seed: int = 1) -> Batch:
    """SAMPLES samples; the first modality is the easiest to tell classes by."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, CLASSES, (SAMPLES,), generator=g)
    inputs = {}
    for i, m in enumerate(modalities):
        ease = 2.0 if i == 0 else 0.3
        inputs[m] = torch.randn(SAMPLES, i + 1, 6, 6, generator=g) + ease * label[:, None, None, None]
    return Batch(inputs, label, torch.arange(SAMPLES))


@dataclass
class Loader:
    """The Loader protocol over samples in memory, with uneven last batches and, if asked, missing modalities."""

    modalities: tuple[str, ...]
    size: int = 16
    seed: int = 3
    missing: bool = False
    dtype: torch.dtype = torch.float32
    num_samples: int = SAMPLES
    data_seed: int = 1

    def __post_init__(self) -> None:
        self.data = samples(self.modalities, self.data_seed).to(torch.device("cpu"), self.dtype)
        there = torch.rand(SAMPLES, len(self.modalities), generator=torch.Generator().manual_seed(11)) > 0.3
        there[:, 0] |= ~there.any(1)
        self.there = there

    def pick(self, rows: Tensor, size: int, keep: Tensor | None = None, group: int | None = None) -> Batch:
        here = self.there[rows] if self.missing else None
        if keep is not None:
            here = keep if here is None else here & keep
        present = {} if here is None else {m: here[:, k] for k, m in enumerate(self.modalities)}
        return Batch(
            {m: x[rows] for m, x in self.data.inputs.items()}, self.data.label[rows], rows, present, None, size, group
        )

    def epoch(self, number: int, sampling: EpochSampling | None = None) -> list[Batch]:
        keep = torch.ones(SAMPLES, len(self.modalities), dtype=torch.bool)
        chosen = EpochSampling(torch.arange(SAMPLES), keep) if sampling is None else sampling
        g = torch.Generator().manual_seed(fold_in(self.seed, "order", number))
        order = torch.randperm(len(chosen.index), generator=g)
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        batches = []
        for part in chosen.cut(order, self.size, ranks):
            rows, shown = chosen.index[part[rank::ranks]], chosen.keep[part[rank::ranks]]
            batches.append(self.pick(rows, len(part), None if sampling is None else shown, chosen.group_of(part)))
        return batches

    def all(self) -> list[Batch]:
        return [self.pick(rows, len(rows)) for rows in torch.arange(SAMPLES).split(20)]


def strategy(name: str, **options: Any) -> Strategy:
    return find(name, STRATEGIES, "strategy")(**{**OPTIONS.get(name, {}), **options})


def build(
    method: str = "vanilla",
    fusion: str = "concat",
    modalities: tuple[str, ...] = TWO,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    missing: bool = False,
    size: int = 16,
    optimizer: str = "sgd",
    options: Mapping[str, Any] | None = None,
    **engine: Any,
) -> Engine:
    """An engine over small samples, the same for the same arguments.

    What the method builds on stands there untrained. Raises ValueError where the method refuses, as ``attach`` does.
    """
    encoders = {}
    for i, m in enumerate(modalities):
        torch.manual_seed(fold_in(seed, m))
        encoders[m] = CNN((i + 1, 6, 6), widths=(8, 8))
    dims = {m: e.dim for m, e in encoders.items()}
    torch.manual_seed(fold_in(seed, "fusion"))
    kind = find(fusion, FUSIONS, "fusion")
    model = MultimodalModel(encoders, kind(dims, CLASSES, **FUSION_OPTIONS.get(fusion, {}))).to(dtype=dtype)
    plan = strategy(method, **(options or {}))
    same = fusion if kind.replaces_encoders else "concat"
    trained = {
        name: exported(build(need.method, same, modalities, seed=99, dtype=dtype, options=need.options))
        for name, need in plan.prerequisites(modalities).items()
    }
    torch.manual_seed(fold_in(seed, "strategy"))
    plan.attach(
        model.encoders,
        dims=model.fusion.dims,
        num_classes=CLASSES,
        num_samples=SAMPLES,
        fusion=model.fusion,
        trained=trained,
    ).to(dtype=dtype)
    groups = [{"params": list(model.parameters())}, *(g for g in plan.param_groups() if g["params"])]
    made = (
        torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=1e-4)
        if optimizer == "sgd"
        else torch.optim.Adam(groups, lr=0.01)
    )
    loaders = {
        split: Loader(modalities, size=size, missing=missing, dtype=dtype, data_seed=data_seed)
        for data_seed, split in enumerate(("train", "val"), start=1)
    }
    return Engine(
        model,
        plan,
        made,
        loaders=loaders,
        epochs=4,
        seed=seed,
        scheduler=torch.optim.lr_scheduler.StepLR(made, 2, 0.5),
        **{"max_norm": 5.0, **engine},
    )


def exported(engine: Engine) -> nn.Module:
    """What a run leaves to those that build on it, as the runner hands it on."""
    return engine.strategy.export(engine.model).requires_grad_(False).eval()


def refusal(method: str, fusion: str, modalities: tuple[str, ...] = TWO, **how: Any) -> str | None:
    """Why this combination cannot be built, in the method's own words; None if it can."""
    try:
        build(method, fusion, modalities, **how)
    except ValueError as error:
        return str(error)
    return None


def flat(engine: Engine) -> Tensor:
    """All weights of a run, in one vector."""
    return torch.cat([p.detach().reshape(-1) for p in engine.parameters])


def digest(engine: Engine) -> str:
    """A hash of all weights of a run. NumPy is not asked: these tests also run beside torch alone."""
    return hashlib.sha256(bytes(flat(engine).view(torch.uint8).tolist())).hexdigest()[:16]


def train(engine: Engine, epochs: int = 1) -> Engine:
    for _ in range(epochs):
        engine.train_epoch()
    return engine
