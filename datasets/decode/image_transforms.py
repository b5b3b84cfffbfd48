"""Frames to network inputs: what is random is drawn per sample, and applied to a whole batch on any device.

``parity`` is the exception: it does to each frame, one by one and on the processor, what the released code does, up to
a grey level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.core.checks import refuse_pointer
from datasets.core.errors import VideoDecodeError
from datasets.core.lazy import torch
from datasets.decode import image_files

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
AREA, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
DRAWS = 3 + 2 * TRIES  # numbers in [0, 1) that decide one crop and flip


def crop_boxes(draws: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(..., 23) numbers in [0, 1) -> (..., 5): top, left, height, width in pixels, and 1 where the frame is mirrored.

    The random resized crop of the literature: the area between 0.08 and 1 of the frame, the aspect ratio between 3/4
    and 4/3 (evenly in its logarithm), ten tries, then the largest centred crop whose aspect ratio is allowed.
    """
    area, ratio = draws[..., 3::2], draws[..., 4::2]
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * area)
    ratio = torch.exp(math.log(RATIO[0]) + (math.log(RATIO[1]) - math.log(RATIO[0])) * ratio)
    w, h = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (w <= width) & (h <= height)
    first = fits.int().argmax(-1, keepdim=True)
    any_fits = fits.any(-1)
    w = torch.where(any_fits, w.gather(-1, first).squeeze(-1), float(min(width, round(height * RATIO[1]))))
    h = torch.where(any_fits, h.gather(-1, first).squeeze(-1), float(min(height, round(width / RATIO[0]))))
    top = torch.where(any_fits, (draws[..., 0] * (height - h + 1)).floor(), ((height - h) / 2).round())
    left = torch.where(any_fits, (draws[..., 1] * (width - w + 1)).floor(), ((width - w) / 2).round())
    return torch.stack([top, left, h, w, (draws[..., 2] < 0.5).to(top.dtype)], -1)


def crop_and_flip(frames: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
    """Frames (B, T, H, W, 3) uint8 and their boxes (B, T, 5) -> normalised (B, 3, T, size, size) float32.

    One bilinear sampling of the whole batch on its own device. Unlike PIL's resize it does not average before it
    shrinks: a crop much larger than ``size`` keeps detail (and noise) that PIL would smooth away.
    """
    batch, _, height, width, _ = frames.shape
    top, left, h, w, flip = boxes.flatten(0, 1).to(frames.device).unbind(-1)
    # What affine_grid does, but one number at a time: its matrix product rounds differently in batches of other sizes.
    across = torch.arange(1 - size, size, 2, device=frames.device) / size  # centres of the output's pixels, in [-1, 1]
    x = torch.where(flip > 0, -w, w)[:, None] / width * across + ((2 * left + w) / width - 1)[:, None]
    y = h[:, None] / height * across + ((2 * top + h) / height - 1)[:, None]
    grid = torch.stack([x[:, None].expand(-1, size, -1), y[..., None].expand(-1, -1, size)], -1)
    images = frames.flatten(0, 1).permute(0, 3, 1, 2).float()
    images = torch.nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return _normalised(images, batch)


def plain_resize(frames: torch.Tensor, size: int) -> torch.Tensor:
    """Frames (B, T, H, W, 3) uint8 -> normalised (B, 3, T, size, size) float32; the aspect ratio is not kept."""
    images = frames.flatten(0, 1).permute(0, 3, 1, 2)
    images = torch.nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return _normalised(images.float(), len(frames))


def _normalised(images: torch.Tensor, batch: int) -> torch.Tensor:
    """(B T, 3, S, S) from 0 to 255, which nobody else needs -> (B, 3, T, S, S), standardised per channel."""
    mean, std = (torch.tensor(x, device=images.device).view(3, 1, 1) for x in (MEAN, STD))
    return torch.unflatten(images.div_(255).sub_(mean).div_(std), 0, (batch, -1)).transpose(1, 2)


def normalise(frames: torch.Tensor, flip: torch.Tensor | None = None) -> torch.Tensor:
    """Frames (B, T, S, S, 3) uint8 of the right size -> normalised (B, 3, T, S, S), mirrored where ``flip`` (B, T)."""
    if flip is not None:
        frames = torch.where(flip.to(frames.device)[..., None, None, None] > 0, frames.flip(3), frames)
    return _normalised(frames.flatten(0, 1).permute(0, 3, 1, 2).float(), len(frames))


def parity(frames: Sequence[Sequence[np.ndarray]] | np.ndarray, seeds: Sequence[int], size: int) -> torch.Tensor:
    """B times T frames (H, W, 3) uint8 -> (B, 3, T, size, size) float32, frame by frame as the released code does it.

    That is torchvision's RandomResizedCrop and RandomHorizontalFlip on PIL images, ToTensor, Normalize, with torch's
    generator at ``seeds[b]`` before the first frame of sample b; every frame draws its own crop and flip. Crops and
    flips are the same. A crop is resized by torch on uint8, which is faster than PIL, with the same filter and coarser
    weights: some values differ from PIL's by one grey level, very few by two. A picture is normalised while it is in
    the processor's cache.
    """
    from torchvision.transforms import RandomResizedCrop

    shape = torch.empty(3, *frames[0][0].shape[:2], device="meta")
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    out = torch.empty(len(frames), len(frames[0]), 3, size, size)
    with torch.random.fork_rng(devices=[]):
        for b, seed in enumerate(seeds):
            torch.default_generator.manual_seed(seed)
            for t, frame in enumerate(frames[b]):
                top, left, h, w = RandomResizedCrop.get_params(shape, list(AREA), list(RATIO))
                crop = torch.from_numpy(frame[top : top + h, left : left + w].copy()).permute(2, 0, 1)
                (picture,) = torch.nn.functional.interpolate(crop[None], (size, size), mode="bilinear", antialias=True)
                if torch.rand(1) < 0.5:
                    picture = picture.flip(-1)
                out[b, t].copy_(picture).div_(255).sub_(mean).div_(std)
    return out.transpose(1, 2)


def read_image(path: Path, size: int) -> np.ndarray:
    """(size, size, 3) uint8: a picture in any common format and any colours, aspect ratio not kept.

    Raises VideoDecodeError for one that is damaged, empty, or has more than a hundred million pixels.
    """
    refuse_pointer(path, VideoDecodeError)
    data = path.read_bytes()
    try:
        return image_files.scaled(data, size)
    except image_files.DAMAGE as error:
        raise VideoDecodeError(f"{path}: not a picture that can be read ({error}); get the file again") from error
