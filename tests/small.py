"""Small models and data for tests: a run of a few dozen samples, for any strategy, fusion and number of modalities."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.encoders.cnn import CNN
from models.model import MultimodalModel
from models.registry import FUSIONS
from ogm.context import fold_in
from ogm.engine import Engine
from ogm.registry import STRATEGIES, find
from ogm.strategies.unimodal import Branch
from ogm.strategy import Strategy
from ogm.types import Batch, Draws

CLASSES, SAMPLES = 4, 60
TWO, THREE = ("audio", "visual"), ("audio", "visual", "text")
# Options without which a method is no method, or (a window that never closes) would not show here.
OPTIONS: dict[str, dict[str, Any]] = {
    "unimodal": {"modality": "visual"},
    "static_lr": {"factors": {"audio": 0.5}},
    "ogm": {"alpha": 0.8},
    "ogm_ge": {"alpha": 0.8},
}
METHODS = list(STRATEGIES)
TRAINED = [m for m in METHODS if m != "ume"]  # ume only puts together what was trained before
JOINT = [m for m in TRAINED if m != "unimodal"]
WINDOWED = ["ogm", "ogm_ge", "ge_noise", "weak_boost"]


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

    def __post_init__(self) -> None:
        self.data = samples(self.modalities).to(torch.device("cpu"), self.dtype)
        there = torch.rand(SAMPLES, len(self.modalities), generator=torch.Generator().manual_seed(11)) > 0.3
        there[:, 0] |= ~there.any(1)
        self.there = there

    def pick(self, rows: Tensor, size: int) -> Batch:
        present = {m: self.there[rows, k] for k, m in enumerate(self.modalities)} if self.missing else {}
        return Batch(
            {m: x[rows] for m, x in self.data.inputs.items()}, self.data.label[rows], rows, present, None, size
        )

    def epoch(self, number: int, draws: Draws | None = None) -> list[Batch]:
        order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(fold_in(self.seed, "order", number)))
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        return [self.pick(part[rank::ranks], len(part)) for part in order.split(self.size)]

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
    """An engine over small samples, the same for the same arguments."""
    encoders = {}
    for i, m in enumerate(modalities):
        torch.manual_seed(fold_in(seed, m))
        encoders[m] = CNN((i + 1, 6, 6), widths=(8, 8))
    dims = {m: e.dim for m, e in encoders.items()}
    torch.manual_seed(fold_in(seed, "fusion"))
    model = MultimodalModel(encoders, find(fusion, FUSIONS, "fusion")(dims, CLASSES)).to(dtype=dtype)
    torch.manual_seed(99)
    trained = {
        m: Branch(m, CNN((i + 1, 6, 6), widths=(8, 8)), nn.Linear(8, CLASSES)).to(dtype=dtype).eval()
        for i, m in enumerate(modalities)
    }
    torch.manual_seed(fold_in(seed, "strategy"))
    plan = strategy(method, **(options or {}))
    plan.attach(model.encoders, dims=dims, num_classes=CLASSES, num_samples=SAMPLES, trained=trained).to(dtype=dtype)
    groups = [{"params": list(model.parameters())}, *(g for g in plan.param_groups() if g["params"])]
    made = (
        torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=1e-4)
        if optimizer == "sgd"
        else torch.optim.Adam(groups, lr=0.01)
    )
    loader = Loader(modalities, size=size, missing=missing, dtype=dtype)
    return Engine(
        model,
        plan,
        made,
        loaders={"train": loader, "val": loader},
        epochs=4,
        seed=seed,
        scheduler=torch.optim.lr_scheduler.StepLR(made, 2, 0.5),
        **{"max_norm": 5.0, **engine},
    )


def flat(engine: Engine) -> Tensor:
    """All weights of a run, in one vector."""
    return torch.cat([p.detach().reshape(-1) for p in engine.parameters])


def digest(engine: Engine) -> str:
    return hashlib.sha256(flat(engine).numpy().tobytes()).hexdigest()[:16]


def train(engine: Engine, epochs: int = 1) -> Engine:
    for _ in range(epochs):
        engine.train_epoch()
    return engine
