"""Equal-weight multi-loss: the joint loss plus one loss per modality, all with weight one."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from torch import Tensor, nn

from ogm.checks import check_complete
from ogm.context import Context
from ogm.imbalance import discrepancy_ratios, true_class_scores
from ogm.strategy import Strategy
from ogm.types import Batch, Category, Output

Rule = Literal["pairwise_mean", "min_ratio"]


class EqualWeightMultiloss(Strategy):
    """Give every encoder a direct supervised signal by adding unimodal losses to the joint loss.

    L = CE(z, y) + sum_m CE(g_m, y), where z (B, C) are the fused logits and g_m (B, C) the logits of modality m. L is a
    sum, not a mean: it is about M + 1 times the joint loss, so its learning rate is not comparable with that of joint
    training. The prediction is argmax z; the unimodal accuracies are those of g_m.

    Args:
        heads: ``"dedicated"``: each modality has a linear head of its own on its feature. ``"shared"``: g_m are the
            unimodal logits of the fusion, so that their losses also train the fusion's head.

    Differences:
        - None known.

    References:
        - Paper: Wei and Hu, ICML 2024 (its "uniform baseline").
        - Code: GeWu-Lab/MMPareto_ICML2024 at a339db3.
    """

    category: ClassVar[Category] = "loss"
    title = "Joint and unimodal losses with equal weights"
    paper = "Wei and Hu, ICML 2024 (its uniform baseline)"

    def __init__(self, *, heads: Literal["dedicated", "shared"] = "dedicated") -> None:
        super().__init__()
        self.sharing = heads == "shared"
        self.reads = ("unimodal_logits",) if self.sharing else ("features",)
        self.heads = nn.ModuleDict()

    def setup(self) -> None:
        """Create a head per modality, unless the fusion's unimodal logits are used."""
        if not self.sharing:
            self.heads.update({m: self.head(m) for m in self.modalities})

    def replace_unimodal_logits(self, output: Output) -> Output:
        """Replace the unimodal logits by those of the heads."""
        if self.sharing:
            return output
        check_complete(self, "features", output.features)
        return replace(output, unimodal_logits={m: head(output.features[m]) for m, head in self.heads.items()})

    def ratios(self, output: Output, batch: Batch, ctx: Context, rule: Rule = "pairwise_mean") -> dict[str, Tensor]:
        """Compute the discrepancy ratios of the heads' logits, and log them."""
        if self.sharing:
            return super().ratios(output, batch, ctx, rule)
        rho = discrepancy_ratios(true_class_scores(output.unimodal_logits, batch, ctx), rule)  # of the heads
        ctx.log(**{f"discrepancy_ratio/{m}": r for m, r in rho.items()})
        return rho

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE of the fused logits and of every unimodal logits."""
        unimodal_losses = {f"unimodal/{m}": self.loss(z, batch, ctx, m) for m, z in output.unimodal_logits.items()}
        return super().losses(output, batch, ctx) | unimodal_losses
