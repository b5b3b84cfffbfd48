"""Encoders learn without labels first; joint training starts from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from ogm.context import Context
from ogm.strategies.unimodal_pretrain_finetune import start_from
from ogm.strategy import Strategy
from ogm.types import Batch, Need, Output


class SSLPretrain(Strategy):
    """Self-supervised pre-training, then joint fine-tuning as in ``vanilla`` (spec methods_loss.md, section 17).

    ``simclr`` and ``vicreg`` start from one ``ssl_unimodal`` run per modality, ``av_infonce`` and ``avid`` from one
    ``ssl_crossmodal`` run; projectors are thrown away, batch-norm statistics kept. These runs have as many epochs as
    this one, its optimizer and its learning rate (the spec: 100 of AdamW, which is meant for recipes of 100). For the
    first ``warmup`` epochs the encoders' updates are ``slow`` times as long.
    """

    category = "stage"
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
            raise ValueError(f"slow={slow}, warmup={warmup}: a factor and a number of epochs, 0 or more")
        self.objective: Literal["simclr", "vicreg", "av_infonce", "avid"] = objective
        self.slow, self.warmup = slow, warmup

    def needs(self, modalities: Sequence[str]) -> dict[str, Need]:
        if self.objective in ("simclr", "vicreg"):
            return {m: Need("ssl_unimodal", {"modality": m, "objective": self.objective}) for m in modalities}
        return {"encoders": Need("ssl_crossmodal", {"objective": self.objective})}

    def setup(self) -> None:
        together = self._trained.get("encoders")
        start_from(
            self._encoders,
            {m: self._trained[m].encoder if together is None else together.encoders[m] for m in self.modalities},  # type: ignore[index]
        )

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        super().on_gradients(output, batch, ctx)
        if ctx.epoch < self.warmup:
            for _, _, p in self.in_scope("all"):
                self.modulate(p, self.slow, "update")
