"""A method of one's own, for --method-file: the first modality learns at half its pace."""

import torch

from ogm import Batch, Context, Output, Strategy


class Halved(Strategy):
    """g <- factor * g in the first modality's encoder, all along: no adaptivity at all."""

    category = "gradient"
    paper = "an example"

    def __init__(self, factor: float = 0.5) -> None:
        super().__init__()
        self.factor = factor

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        super().on_gradients(output, batch, ctx)
        self.modulate(self.in_scope("weights")[self.modalities[0]], self.factor, "grad")
