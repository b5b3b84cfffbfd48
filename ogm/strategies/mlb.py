"""Multi-loss balanced training: a loss per modality, and a pace for each that meets the others halfway."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.scores import true_class_scores
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.strategies.ogm import usable
from ogm.strategies.weak_boost import lag_ratios
from ogm.types import Batch, Output


class MLB(EqualWeightMultiloss):
    """Kontras et al., BMVC 2024 (arXiv 2405.07930); spec methods_gradient.md, 3.18.

    The joint loss and one per modality, of a linear head of its own, all with weight one. Scores are the heads' mean
    true-class probabilities; rho_m, those of the others over its own, is above 1 for a modality that is behind. Its
    gradients are multiplied by 1 + (beta - 1) tanh(alpha (rho_m - 1)) if it is behind, by 1 + tanh(alpha (rho_m - 1))
    if it is ahead: continuous, between 0 and beta, and 1 where modalities are balanced. "Its gradients" are those of
    all parameters of its encoder, of its own head, and of its part of the fused head: the columns of a concat head (not
    its bias), the whole layer of a sum. Fusions that do not split keep theirs.

    The published code cannot be run as it is (a base class by a name that is gone); its formulas are these. It trains
    with Adam, which undoes a constant factor, so that there only changes of the coefficients act; with SGD all do.
    """

    category = "gradient"
    paper = "Kontras et al., BMVC 2024"

    def __init__(self, alpha: float = 0.8, beta: float = 2.0) -> None:
        super().__init__()
        if not (alpha >= 0 and 1 <= beta < math.inf):
            raise ValueError(f"alpha={alpha}, beta={beta}: needs alpha >= 0 and beta >= 1")
        self.alpha, self.beta = alpha, beta

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        super().on_gradients(output, batch, ctx)
        rho = lag_ratios(true_class_scores(output.unimodal_logits, batch, ctx), math.inf)
        k = usable(paces(rho, self.alpha, self.beta), ctx)
        ctx.log(**{f"coefficient/{m}": x for m, x in k.items()})
        for _, m, p in self.in_scope("all"):
            self.modulate(p, k[m], "grad")
        for m, head in self.heads.items():
            for p in head.parameters():
                self.modulate(p, k[m], "grad")
        for m, p, columns in shares(self._fusion[0], self.dims):
            if p.grad is not None:
                p.grad[..., columns].mul_(k[m])


def paces(rho: Mapping[str, Tensor], alpha: float, beta: float) -> dict[str, Tensor]:
    """k_m from rho_m, how far a modality is behind: see the class. NaN stays NaN."""
    return {m: 1 + torch.where(r <= 1, 1.0, beta - 1) * torch.tanh(alpha * (r - 1)) for m, r in rho.items()}


def shares(fusion: Any, dims: Mapping[str, int]) -> Iterator[tuple[str, nn.Parameter, slice]]:
    """(modality, parameter, columns) of all that belongs to one modality alone in the final layer of a fusion.

    Of one linear layer over all features (concat) the columns of its weight; of one layer per modality (sum, late) all
    of it. Nothing where the fusion does not split, or is not known.
    """
    head = final_layer(fusion)
    if isinstance(head, nn.ModuleDict):
        yield from ((m, p, slice(None)) for m in dims if m in head for p in head[m].parameters())
    elif isinstance(head, nn.Linear) and getattr(fusion, "is_additive", False):
        weight, start = head.weight, 0
        assert isinstance(weight, nn.Parameter)
        for m, width in dims.items():
            yield m, weight, slice(start, start + width)
            start += width


def final_layer(fusion: Any) -> Any:
    """The module that says the logits; None if the fusion is not known."""
    head: Any = getattr(fusion, "head", None)
    while hasattr(head, "head"):  # a fusion inside a fusion, as MMTM has
        head = head.head
    return head
