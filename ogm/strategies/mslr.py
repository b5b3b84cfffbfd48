"""A learning rate per modality, set by how its validation accuracy develops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from ogm.context import Context
from ogm.engine import Engine
from ogm.strategies.mlb import shares
from ogm.strategy import Strategy, Target
from ogm.types import Batch, Output

Measure = Callable[[Tensor, Tensor], Tensor]


class MSLR(Strategy):
    """Yao and Mihalcea, Findings of ACL 2022; spec methods_gradient.md, 3.9.

    The learning rate of a modality's encoder, and of its own layer of the head where it has one (sum, late), is the
    run's times ``init`` of it (1 where not named). ``rule="keep"`` leaves it there. ``"dynamic"`` multiplies it by the
    last epoch's validation accuracy of its unimodal logits over the mean of the ``memory`` epochs before, once there
    are so many; kept within 0.1 and 10. Fusion, shared layers and biases keep the run's rate. (The paper has a third
    rule, "smooth", of which no code or formula was at hand.)

    Deviations from released code (two re-implementations): validation accuracies, not the test set's; a learning rate,
    which scales weight decay along and means the same to every optimizer (``target="grad"`` scales the gradient, as
    those do).
    """

    category = "gradient"
    paper = "Yao and Mihalcea, Findings of ACL 2022"
    stages = "validation after every epoch"
    touches = "nothing"
    needs_engine = True
    past: Tensor
    quotient: Tensor

    def __init__(
        self,
        init: Mapping[str, float] | None = None,
        *,
        rule: Literal["dynamic", "keep"] = "dynamic",
        memory: int = 5,
        target: Target = "update",
    ) -> None:
        super().__init__()
        if any(not f > 0 for f in (init or {}).values()) or memory < 1:
            raise ValueError(f"init={init}, memory={memory}: needs factors above 0 and a memory of 1 epoch or more")
        self.init, self.rule, self.memory, self.target = dict(init or {}), rule, memory, target
        self._factors: dict[str, float] = {}

    def setup(self) -> None:
        unknown = self.init.keys() - set(self.modalities)
        if unknown:
            raise ValueError(f"init: no modality {sorted(unknown)}; there are {list(self.modalities)}")
        self.register_buffer("past", torch.full((len(self.modalities), self.memory), torch.nan))
        self.register_buffer("quotient", torch.ones(len(self.modalities)))

    def on_epoch_start(self, engine: Engine) -> None:
        pairs = zip(self.modalities, self.quotient.tolist(), strict=True)
        self._factors = {m: self.init.get(m, 1.0) * q for m, q in pairs}

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        super().on_gradients(output, batch, ctx)
        ctx.log(**{f"coefficient/{m}": k for m, k in self._factors.items()})
        everything = [(m, p) for _, m, p in self.in_scope("all")]
        everything += [(m, p) for m, p, part in shares(self._fusion[0], self.dims) if part == slice(None)]
        for m, p in everything:
            if self._factors[m] != 1.0:
                self.modulate(p, self._factors[m], self.target)

    def on_epoch_end(self, engine: Engine) -> None:
        if self.rule == "dynamic":
            now = validation(engine, lambda logits, label: (logits.argmax(1) == label).double())
            self.quotient.copy_(quotients(self.past, now))
            self.past.copy_(torch.cat([self.past[:, 1:], now[:, None]], 1))


def quotients(past: Tensor, now: Tensor) -> Tensor:
    """(M,) accuracy now (M,) over the mean of those of the last epochs (M, W), NaN where there were none yet.

    1 as long as there are fewer than W, or nothing is known; within 0.1 and 10.
    """
    mean = past.mean(1)
    found = torch.where(mean < 1e-8, 1.0, (now / mean).clamp(0.1, 10))
    return torch.where(torch.isfinite(found), found, 1.0)


@torch.no_grad()
def validation(engine: Engine, measure: Measure) -> Tensor:
    """(M,) float64: the mean of ``measure(unimodal logits (B, C), label (B,))`` (B,) over the validation samples that
    have the modality; NaN if none has. The same on all ranks."""
    names = engine.strategy.modalities
    total = torch.zeros(len(names), 2, dtype=torch.float64, device=engine.device)
    for output, batch in engine.predict("val"):
        for k, m in enumerate(names):
            here = batch.have([m])
            values = measure(output.unimodal_logits[m], batch.label).double()
            total[k] += torch.stack([torch.where(here, values, 0.0).sum(), here.sum().double()])
    return engine.decide(total[:, 0] / total[:, 1])
