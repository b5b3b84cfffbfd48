"""Self-supervised pre-training, then joint fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from ogm.context import Context
from ogm.parts.teachers import load_encoders
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Prerequisite


class SSLPretrain(Strategy):
    """Start joint training from encoders that were trained without labels.

    1. Pre-train the encoders: one ``ssl_unimodal`` run per modality (``"simclr"``, ``"vicreg"``) or one
       ``ssl_crossmodal`` run for all (``"av_infonce"``, ``"avid"``). Projectors are thrown away, batch-norm statistics
       kept.
    2. Train as in ``vanilla``. In the first ``warmup`` epochs the updates of the encoders are multiplied by ``slow``.

    Args:
        objective: ``"simclr"``, ``"vicreg"``, ``"av_infonce"`` or ``"avid"``.
        slow: Factor of the encoders' updates during the warm-up, 0 or more.
        warmup: Number of warm-up epochs, 0 or more.

    Differences:
        - Released code: optimizers and schedules of its own (SimCLR: LARS; AVID: Adam). Ours: pre-training has the
          number of epochs, the optimizer and the learning rate of the run.
        - The warm-up is ours.

    References:
        - Paper: Chen et al., ICML 2020 (SimCLR); Bardes et al., ICLR 2022 (VICReg); Morgado et al., CVPR 2021 (AVID).
        - Code of SimCLR and AVID: google-research/simclr at 383d414; facebookresearch/AVID-CMA at 4538e40.
    """

    category = "stage"
    title = "Self-supervised pre-training, then joint training"
    paper = "Chen et al., ICML 2020; Morgado et al., CVPR 2021"
    needs_optimizer = True
    stages = "first a run without labels per modality (simclr, vicreg), or one for all (av_infonce, avid)"

    def __init__(
        self,
        objective: Literal["simclr", "vicreg", "av_infonce", "avid"] = "simclr",
        *,
        slow: float = 0.1,
        warmup: int = 5,
    ) -> None:
        super().__init__()
        if not (slow >= 0 and warmup >= 0):
            raise ValueError(f"slow={slow}, warmup={warmup}: both must be 0 or more")
        self.objective: Literal["simclr", "vicreg", "av_infonce", "avid"] = objective
        self.slow, self.warmup = slow, warmup

    def prerequisites(self, modalities: Sequence[str]) -> dict[str, Prerequisite]:
        """Name the runs of self-supervised pre-training."""
        if self.objective in ("simclr", "vicreg"):
            return {m: Prerequisite("ssl_unimodal", {"modality": m, "objective": self.objective}) for m in modalities}
        return {"encoders": Prerequisite("ssl_crossmodal", {"objective": self.objective})}

    def setup(self) -> None:
        """Load the pre-trained encoders."""
        joint_run = self._trained.get("encoders")
        load_encoders(
            self._encoders,
            {m: self._trained[m].encoder if joint_run is None else joint_run.encoders[m] for m in self.modalities},  # type: ignore[index]
        )

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Slow the encoders' updates down during the warm-up."""
        super().on_gradients(output, batch, ctx)
        if ctx.epoch < self.warmup:
            for parameters in self.in_scope("all").values():
                self.modulate(parameters, self.slow, "update")
