"""What every encoder promises, and what all of them share: frames, pooling, the initialisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from models.fusion import full

Level = Callable[[Tensor], Tensor]
Pooling = Literal["mean", "max", "attention"]


class Encoder(nn.Module):
    """Turns one modality's input into a feature (B, dim).

    Inputs are images (B, C, H, W), frames (B, C, T, H, W) or sequences (B, T, F).

    A subclass sets ``dim`` and writes ``maps``; frames go through it as images, and ``over_time`` makes one of them.
    One that can be looked into, by fusions that exchange maps or tokens, writes ``levels`` in place of ``maps``, and
    sets ``widths``.
    """

    source: ClassVar[str] = ""  # who, where, when
    dim: int
    widths: tuple[int, ...] = ()  # channels of the maps after each level; none: this encoder is a closed box

    def __init__(self) -> None:
        super().__init__()
        self.over_time = Pool("mean")

    def levels(self) -> Sequence[Level]:
        """The network in stages: each takes the maps (N, C, ...) of the one before; the first, what ``fold`` gives."""
        return ()

    def maps(self, x: Tensor) -> Tensor:
        """What ``fold`` gives -> the last maps: of images (N, dim, h, w), of sequences (N, dim, T)."""
        levels = self.levels()
        if not levels:
            raise NotImplementedError(f"{type(self).__name__} does not say how it encodes")
        for level in levels:
            x = level(x)
        return x

    def fold(self, x: Tensor) -> tuple[Tensor, int]:
        """Frames (B, C, T, H, W) as images (B * T, C, H, W), and T; anything else as it is, and 1."""
        if x.ndim != 5:
            return x, 1
        return x.transpose(1, 2).flatten(0, 1), x.shape[2]  # T from the tensor itself, never from a constant

    def pool(self, maps: Tensor, frames: int) -> Tensor:
        """(B * T, dim, h, w) or (B, dim, T) -> (B, dim): the mean over an image's positions, then ``over_time``."""
        if maps.ndim == 3:
            return self.over_time(maps.mT)
        return self.over_time(maps.mean((2, 3)).unflatten(0, (-1, frames)))

    def forward(self, x: Tensor) -> Tensor:
        images, frames = self.fold(x)
        return self.pool(self.maps(images), frames)


class Pool(nn.Module):
    """(B, T, D) -> (B, D): the mean or the largest over time, or a mean weighted by a learned softmax over time."""

    def __init__(self, how: Pooling, dim: int = 0) -> None:
        super().__init__()
        self.how = how
        if how == "attention":
            self.score = nn.Linear(dim, 1)
            nn.init.zeros_(self.score.weight)  # starts as the mean
            nn.init.zeros_(self.score.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "mean":
            return x.mean(1)
        if self.how == "max":
            return x.amax(1)
        return (full(self.score(x)).softmax(1) * x).sum(1)


def unfold(maps: Tensor, frames: int) -> Tensor:
    """Maps of frames (B * T, C, ...) -> of clips (B, C, T, ...); what has one frame stays as it is."""
    return maps if frames == 1 else maps.unflatten(0, (-1, frames)).movedim(1, 2)


def refold(maps: Tensor, frames: int) -> Tensor:
    """The way back."""
    return maps if frames == 1 else maps.movedim(2, 1).flatten(0, 1)


def channels(shape: Sequence[int]) -> int:
    """Input channels of a sample (C, H, W) or (C, T, H, W); ValueError for any other shape."""
    if len(shape) not in (3, 4):
        raise ValueError(f"an input of shape {tuple(shape)} is no spectrogram, image or clip (C, H, W) or (C, T, H, W)")
    return shape[0]


def steps(shape: Sequence[int]) -> tuple[int, int]:
    """(T, F) of a sequence (T, F), or of a spectrogram (C, bins, T) read along time; ValueError for any other shape."""
    if len(shape) == 2:
        return shape[0], shape[1]
    if len(shape) == 3:
        return shape[2], shape[0] * shape[1]
    raise ValueError(f"an input of shape {tuple(shape)} is no sequence (T, F) or spectrogram (C, bins, T)")


def as_steps(x: Tensor) -> Tensor:
    """(B, T, F) as it is; (B, C, bins, T) -> (B, T, C * bins)."""
    return x if x.ndim == 3 else x.flatten(1, 2).mT


def initialise(network: nn.Module) -> None:
    """The official initialisation: convolutions Kaiming normal (fan-out), norms 1 and 0 (spec fusion.md, section 0)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
