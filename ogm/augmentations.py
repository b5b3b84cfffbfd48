"""Random views of inputs, for learning without labels; made on the device of the batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ogm.context import Context

InputKind = Literal["spectrogram", "image", "frames", "tokens"]
Draw = Callable[[str], Tensor]  # purpose -> (B,) random numbers in [0, 1)


def kind_of(x: Tensor) -> InputKind:
    """Tell the kind of an input by its shape.

    Args:
        x: The input.

    Returns:
        ``"frames"`` for (B, C, T, H, W), ``"spectrogram"`` for (B, 1, F, T), ``"image"`` for (B, C, H, W), else
        ``"tokens"``. A grey image has the shape of a spectrogram: methods have an option ``kinds`` to say so.
    """
    if x.ndim == 5:
        return "frames"
    if x.ndim == 4:
        return "spectrogram" if x.shape[1] == 1 else "image"
    return "tokens"


@torch.no_grad()
def view(x: Tensor, kind: InputKind, index: Tensor, purpose: str, ctx: Context) -> Tensor:
    """Make a random view of a batch.

    The choice of transformations is this suite's. Each is a function of (seed, step, purpose, sample), so it does not
    depend on other samples or on ranks; all frames of a clip share theirs. Values are taken as the dataset gives them:
    spectrograms are logarithms, in no particular unit, and images are standardised.

    - image, frames: a crop of 30 to 100 % of the area and an aspect of 3/4 to 4/3, resized; half are mirrored;
      brightness, contrast and saturation (the latter of three channels) by up to 40 %, in 80 %; grey in 20 %; blur in
      half. Hue is left alone: it means nothing in standardised values.
    - spectrogram: 60 to 100 % of the time, resized; gain of +-6 dB, as ln 2 added; one block of time and one of
      frequency, at most 15 %, at the sample's mean; noise 15 to 30 dB below the sample's standard deviation.
    - tokens (B, T, D), or a plain vector (B, D): 10 % at zero.

    Args:
        x: The inputs, (B, ...).
        kind: What they are.
        index: (B,) sample numbers.
        purpose: What the view is for; each purpose has random numbers of its own.
        ctx: Seed and step.

    Returns:
        The view, in the shape of ``x``.
    """

    def draw(what: str) -> Tensor:
        return ctx.uniform(index, f"{purpose}/{what}").to(x.dtype)

    if kind == "tokens":
        steps = x.shape[1]
        each = ctx.uniform(index[:, None] * steps + torch.arange(steps, device=x.device), f"{purpose}/drop")
        return x * (each >= 0.1).to(x.dtype).view(*each.shape, *[1] * (x.ndim - 2))
    if kind == "spectrogram":
        size = index.numel(), x[0].numel()
        each = index[:, None] * size[1] + torch.arange(size[1], device=x.device)
        u, v = (ctx.uniform(each, f"{purpose}/noise/{k}") for k in "uv")
        normal = ((-2 * (1 - u).log()).sqrt() * (2 * math.pi * v).cos()).to(x.dtype).view_as(x)  # Box and Muller
        return _spectrogram(x, normal, draw)
    clip = x if x.ndim == 5 else x[:, :, None]
    return _clips(clip, draw).view_as(x)


def _spectrogram(x: Tensor, normal: Tensor, draw: Draw) -> Tensor:
    share = 0.6 + 0.4 * draw("share")
    whole = torch.ones_like(share)
    x = crop(x, whole, share, whole, 2 * draw("where") - 1)
    x = x + _per_sample(math.log(2) * (2 * draw("gain") - 1), x)
    mean, std = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True, unbiased=False)
    for axis in (2, 3):
        x = torch.where(_block(x, axis, draw), mean, x)
    below = 10 ** (-_per_sample(15 + 15 * draw("snr"), x) / 20)
    return x + below * std * normal


def _clips(x: Tensor, draw: Draw) -> Tensor:
    """Change crop, orientation, blur and colours of clips (B, C, T, H, W)."""
    frames = x.shape[2]
    area, aspect = 0.3 + 0.7 * draw("area"), torch.exp(math.log(4 / 3) * (2 * draw("aspect") - 1))
    high, wide = (area / aspect).sqrt().clamp(max=1), (area * aspect).sqrt().clamp(max=1)
    mirror = torch.where(draw("flip") < 0.5, -1.0, 1.0).to(x.dtype)
    flat = x.transpose(1, 2).flatten(1, 2)  # frames as channels: they share one crop and one blur
    flat = crop(flat, high, wide, 2 * draw("top") - 1, 2 * draw("left") - 1, mirror)
    flat = torch.where(_per_sample(draw("blur") < 0.5, flat), blur(flat, 0.1 + 1.9 * draw("sigma")), flat)
    x = torch.unflatten(flat, 1, (frames, -1)).transpose(1, 2)
    return _colours(x, draw)


def _colours(x: Tensor, draw: Draw) -> Tensor:
    def factor(what: str) -> Tensor:
        return _per_sample(1 + 0.4 * (2 * draw(what) - 1), x)

    mean = x.mean((1, 2, 3, 4), keepdim=True)
    std = x.std((1, 2, 3, 4), keepdim=True, unbiased=False)
    changed = (x - mean) * factor("contrast") + mean + (factor("brightness") - 1) * std
    if x.shape[1] == 3:
        grey = changed.mean(1, keepdim=True)
        changed = grey + factor("saturation") * (changed - grey)
    x = torch.where(_per_sample(draw("jitter") < 0.8, x), changed, x)
    return torch.where(_per_sample(draw("grey") < 0.2, x), x.mean(1, keepdim=True), x)


def crop(x: Tensor, high: Tensor, wide: Tensor, top: Tensor, left: Tensor, mirror: Tensor | None = None) -> Tensor:
    """Cut windows out of images and resize them to the size of the image, bilinearly.

    Args:
        x: (B, C, H, W).
        high: (B,) height of the window as a share of H, in (0, 1].
        wide: (B,) width of the window as a share of W, in (0, 1].
        top: (B,) vertical position, from -1 (top) to 1 (bottom).
        left: (B,) horizontal position, from -1 (left) to 1 (right).
        mirror: (B,) -1 to exchange left and right, 1 not to; None: nowhere.

    Returns:
        (B, C, H, W).
    """
    zero = torch.zeros_like(high)
    across = wide if mirror is None else wide * mirror
    rows = [torch.stack([across, zero, left * (1 - wide)], 1), torch.stack([zero, high, top * (1 - high)], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur images with a Gaussian, cut off at 5 % of the height (at least one pixel).

    Args:
        x: (B, C, H, W).
        sigma: (B,) standard deviations in pixels.

    Returns:
        (B, C, H, W).
    """
    reach = max(1, x.shape[2] // 20)
    at = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    weight = torch.softmax(-0.5 * (at / sigma[:, None]) ** 2, 1).repeat_interleave(x.shape[1], 0)  # (B C, K)
    flat = F.pad(x, (reach,) * 4, mode="replicate").flatten(0, 1)[None]
    flat = F.conv2d(flat, weight[:, None, :, None], groups=len(weight))
    return F.conv2d(flat, weight[:, None, None, :], groups=len(weight))[0].view_as(x)


def _block(x: Tensor, axis: int, draw: Draw) -> Tensor:
    """Choose a block of at most 15 % along an axis per sample: bool, in a shape that broadcasts with x."""
    length = x.shape[axis]
    size = 0.15 * length * draw(f"block/{axis}")
    start = (length - size) * draw(f"start/{axis}")
    at = torch.arange(length, device=x.device)
    inside = (at >= start[:, None]) & (at < (start + size)[:, None])
    return inside.view(len(x), *(length if k == axis else 1 for k in range(1, x.ndim)))


def _per_sample(values: Tensor, x: Tensor) -> Tensor:
    """Reshape (B,) to (B, 1, ...), which broadcasts with x."""
    return values.view(-1, *[1] * (x.ndim - 1))
