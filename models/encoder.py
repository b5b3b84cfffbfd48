"""What every encoder promises, and what encoders and the fusions of their maps share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import TimePooling, learned_embedding, transformer_linear

__all__ = [
    "MAX_TOKENS",
    "Encoder",
    "Level",
    "TokenEncoder",
    "as_sequence",
    "channels",
    "last_widths",
    "measure_width",
    "refold",
    "sequence_shape",
    "split_levels",
    "unfold",
]

Level = Callable[[Tensor], Tensor]
MAX_TOKENS = 64  # of one modality


class Encoder(nn.Module):
    """Turns the input of one modality into a feature (B, dim).

    Inputs are images (B, C, H, W), frames (B, C, T, H, W) or sequences (B, T, F). A subclass sets ``dim`` and writes
    ``maps``; frames go through it as images, and ``over_time`` pools them into one feature. A subclass that feeds the
    fusions of maps or tokens writes ``levels`` in place of ``maps``, and sets ``widths``.

    Attributes:
        source: Who published it, and where.
        dim: Width of the feature.
        widths: Channels of the maps after each level; empty where the encoder does not show its levels.
        over_time: Pools the features of T frames or steps, (B, T, dim) -> (B, dim).
    """

    source: ClassVar[str] = ""
    dim: int
    widths: tuple[int, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.over_time = TimePooling("mean")

    def levels(self) -> Sequence[Level]:
        """Return the network in stages.

        Returns:
            Functions from the maps (N, C, ...) of the stage before to the maps of the next one; the first takes what
            ``fold`` returns.
        """
        return ()

    def maps(self, x: Tensor) -> Tensor:
        """Compute the last maps.

        Args:
            x: Images (N, C, H, W) or sequences, as ``fold`` returns them.

        Returns:
            (N, dim, h, w) of images, (N, dim, T) of sequences.
        """
        levels = self.levels()
        if not levels:
            raise NotImplementedError(f"{type(self).__name__} does not say how it encodes")
        for level in levels:
            x = level(x)
        return x

    def fold(self, x: Tensor) -> tuple[Tensor, int]:
        """Turn frames into images.

        Args:
            x: (B, C, T, H, W), or any other input.

        Returns:
            (B * T, C, H, W) and T of frames; any other input as it is, and 1.
        """
        if x.ndim != 5:
            return x, 1
        return x.transpose(1, 2).flatten(0, 1), x.shape[2]  # T from the tensor itself, never from a constant

    def pool(self, maps: Tensor, frames: int) -> Tensor:
        """Pool the last maps over positions, and then over time.

        Args:
            maps: (B * T, dim, h, w), or (B, dim, T) of sequences.
            frames: T, as ``fold`` returned it.

        Returns:
            (B, dim).
        """
        pooled: Tensor
        if maps.ndim == 3:
            pooled = self.over_time(maps.mT)
        else:
            pooled = self.over_time(torch.unflatten(maps.mean((2, 3)), 0, (-1, frames)))
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        """Encode an input (B, ...) as a feature (B, dim)."""
        images, frames = self.fold(x)
        return self.pool(self.maps(images), frames)


class TokenEncoder(nn.Module):
    """An encoder whose last maps are turned into tokens of one width.

    Tokens are a linear layer of the maps' positions, plus learned positions, plus a learned embedding of the modality.
    Maps with more than 64 positions are first averaged over neighbouring ones. This module belongs to the encoder: it
    sees one modality only.

    Args:
        encoder: An encoder that shows its levels.
        modality: Its modality, for the error message.
        width: Width D of the tokens.

    Raises:
        ValueError: For an encoder that does not show its levels.
    """

    def __init__(self, encoder: Any, modality: str, width: int) -> None:
        super().__init__()
        if not getattr(encoder, "widths", ()):
            raise ValueError(
                f"it needs the maps that tokens are made of, which {type(encoder).__name__} ({modality}) does not "
                "show: use one that does, such as cnn or resnet18"
            )
        self.encoder, self.dim = encoder, width
        self.project = transformer_linear(encoder.widths[-1], width)
        self.positions, self.modality_embedding = learned_embedding(MAX_TOKENS, width), learned_embedding(width)

    def tokens(self, x: Tensor) -> Tensor:
        """Compute the tokens of an input.

        Args:
            x: (B, ...).

        Returns:
            (B, n, D), n at most 64.
        """
        images, frames = self.encoder.fold(x)
        row = unfold(self.encoder.maps(images), frames).flatten(2)  # (B, C, n)
        every = math.ceil(row.shape[2] / MAX_TOKENS)
        if every > 1:  # not the adaptive kind, whose backward pass is not deterministic on every device
            row = F.avg_pool1d(row, every, ceil_mode=True)
        tokens: Tensor = self.project(row.mT) + self.positions[: row.shape[2]] + self.modality_embedding
        return tokens


# ---- shapes
def unfold(maps: Tensor, frames: int) -> Tensor:
    """Turn maps of frames (B * T, C, ...) into maps of clips (B, C, T, ...); with one frame they stay as they are."""
    return maps if frames == 1 else torch.unflatten(maps, 0, (-1, frames)).movedim(1, 2)


def refold(maps: Tensor, frames: int) -> Tensor:
    """Turn maps of clips (B, C, T, ...) into maps of frames (B * T, C, ...), the inverse of ``unfold``."""
    return maps if frames == 1 else maps.movedim(2, 1).flatten(0, 1)


def channels(shape: Sequence[int]) -> int:
    """Return the number of input channels.

    Args:
        shape: Of one sample, (C, H, W) or (C, T, H, W).

    Returns:
        C.

    Raises:
        ValueError: For any other shape.
    """
    if len(shape) not in (3, 4):
        raise ValueError(f"an input of shape {tuple(shape)} is no spectrogram, image or clip (C, H, W) or (C, T, H, W)")
    return shape[0]


def sequence_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Return the steps and features of an input that is read as a sequence.

    Args:
        shape: Of one sample, (T, F), or a spectrogram (C, bins, T), which is read along time.

    Returns:
        T and F; of a spectrogram T and C * bins.

    Raises:
        ValueError: For any other shape.
    """
    if len(shape) == 2:
        return shape[0], shape[1]
    if len(shape) == 3:
        return shape[2], shape[0] * shape[1]
    raise ValueError(f"an input of shape {tuple(shape)} is no sequence (T, F) or spectrogram (C, bins, T)")


def as_sequence(x: Tensor) -> Tensor:
    """Return sequences (B, T, F) as they are, and spectrograms (B, C, bins, T) as (B, T, C * bins)."""
    return x if x.ndim == 3 else x.flatten(1, 2).mT


# ---- levels and widths
def last_widths(encoders: Mapping[str, Any], sites: int) -> dict[str, tuple[int, ...]]:
    """Return the channels of the last stages of each encoder.

    Args:
        encoders: Modality -> encoder.
        sites: How many stages are wanted; if some encoder has fewer, all get as many as that one has.

    Returns:
        Modality -> channels after each of these stages, equally many for all modalities.

    Raises:
        ValueError: For an encoder that does not show its stages.
    """
    widths = {m: tuple(getattr(encoder, "widths", ())) for m, encoder in encoders.items()}
    for m, shown in widths.items():
        if not shown:
            raise ValueError(
                f"it needs the maps of encoders' stages, which {type(encoders[m]).__name__} ({m}) does not show: "
                "use one that does, such as cnn or resnet18"
            )
    count = min(sites, *map(len, widths.values()))
    return {m: shown[-count:] for m, shown in widths.items()}


def split_levels(levels: Sequence[Level], sites: int) -> list[list[Level]]:
    """Group the stages of an encoder by the site that they lead to.

    Args:
        levels: The stages, see ``Encoder.levels``.
        sites: Number of sites: one after each of the last stages.

    Returns:
        For each site the stages between the one before and it.
    """
    first = len(levels) - sites + 1
    return [list(levels[:first]), *([level] for level in levels[first:])]


def measure_width(network: nn.Module, shape: Sequence[int], name: str) -> int:
    """Measure the width of what a network returns by running it on one image of zeros; nothing in it changes.

    Args:
        network: (N, C, H, W) -> (N, D), in training mode.
        shape: Of one sample, (C, H, W) or (C, T, H, W).
        name: What the error message calls the network.

    Returns:
        D.

    Raises:
        ValueError: If the network cannot take inputs of this shape.
    """
    image = torch.zeros(1, channels(shape), *shape[-2:])
    try:
        with torch.no_grad():
            return int(network.eval()(image).shape[1])
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{name} cannot take inputs of shape {tuple(shape)}: {reason}") from None
    finally:
        network.train()
