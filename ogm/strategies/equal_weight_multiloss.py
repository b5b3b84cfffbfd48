"""Joint and unimodal losses, all with weight one: every encoder gets a signal of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from torch import Tensor, nn

from ogm.checks import check_complete
from ogm.context import Context
from ogm.scores import discrepancy_ratios, true_class_scores
from ogm.strategy import Category, Strategy
from ogm.types import Batch, Output

Rule = Literal["pairwise_mean", "min_ratio"]


class EqualWeightMultiloss(Strategy):
    """The "uniform baseline" of the MMPareto repository (spec methods_loss.md, section 1): L = CE(z) + sum_m CE(g_m).

    g_m comes from a linear head of its own per modality (``heads="dedicated"``) or is the fusion's unimodal logits
    (``"shared"``). A sum, not a mean: learning rates do not compare with joint training's. What the heads say is also
    what is reported as each modality's own accuracy.
    """

    category: ClassVar[Category] = "loss"
    paper = "Wei and Hu, ICML 2024 (its uniform baseline)"

    def __init__(self, *, heads: Literal["dedicated", "shared"] = "dedicated") -> None:
        super().__init__()
        self.sharing = heads == "shared"
        self.reads = ("unimodal_logits",) if self.sharing else ("features",)
        self.heads = nn.ModuleDict()

    def setup(self) -> None:
        if not self.sharing:
            self.heads.update({m: self.head(m) for m in self.modalities})

    def read(self, output: Output) -> Output:
        if self.sharing:
            return output
        check_complete(self, "features", output.features)
        return replace(output, unimodal_logits={m: head(output.features[m]) for m, head in self.heads.items()})

    def ratios(self, output: Output, batch: Batch, ctx: Context, rule: Rule = "pairwise_mean") -> dict[str, Tensor]:
        if self.sharing:
            return super().ratios(output, batch, ctx, rule)
        rho = discrepancy_ratios(true_class_scores(output.unimodal_logits, batch, ctx), rule)  # the heads', no shares
        ctx.log(**{f"discrepancy_ratio/{m}": r for m, r in rho.items()})
        return rho

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        own = {f"unimodal/{m}": self.loss(z, batch, ctx, m) for m, z in output.unimodal_logits.items()}
        return super().losses(output, batch, ctx) | own
