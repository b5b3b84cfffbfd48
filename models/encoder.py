"""What every encoder promises, and what all of them share: the handling of frames and the initialisation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Encoder(nn.Module):
    """Turns one modality's input into a feature: (B, C, H, W) or frames (B, C, T, H, W) -> (B, dim).

    A subclass writes ``maps``; frames go through it as images and are averaged over time.
    """

    dim: int

    def maps(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> the last feature maps (N, dim, h, w)."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it encodes")

    def forward(self, x: Tensor) -> Tensor:
        frames = x.shape[2] if x.ndim == 5 else 1  # from the tensor itself, never from a constant
        if x.ndim == 5:
            x = x.transpose(1, 2).flatten(0, 1)  # (B * T, C, H, W)
        pooled = self.maps(x).mean((2, 3))
        return pooled.unflatten(0, (-1, frames)).mean(1)


def channels(shape: Sequence[int]) -> int:
    """Input channels of a sample (C, H, W) or (C, T, H, W); ValueError for any other shape."""
    if len(shape) not in (3, 4):
        raise ValueError(f"an input of shape {tuple(shape)} is no spectrogram, image or clip (C, H, W) or (C, T, H, W)")
    return shape[0]


def initialise(network: nn.Module) -> None:
    """The official initialisation: convolutions Kaiming normal (fan-out), norms 1 and 0 (spec fusion.md, section 0)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
