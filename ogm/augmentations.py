"""Random views of a batch, for learning without labels: made on its device, each decided by a number per sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ogm.context import Context

InputKind = Literal["spectrogram", "image", "frames", "tokens"]
Draw = Callable[[str], Tensor]  # what for -> (B,) numbers in [0, 1)


def kind_of(x: Tensor) -> InputKind:
    """What a batch holds, by its shape: frames (B, C, T, H, W), spectrogram (B, 1, F, T), image (B, C, H, W), else
    tokens. A grey image looks like a spectrogram: who has some says so."""
    if x.ndim == 5:
        return "frames"
    if x.ndim == 4:
        return "spectrogram" if x.shape[1] == 1 else "image"
    return "tokens"


@torch.no_grad()
def view(x: Tensor, kind: InputKind, index: Tensor, purpose: str, ctx: Context) -> Tensor:
    """A random view of a batch, of the same shape. ``index`` (B,) are sample numbers.

    The choice of transformations is this suite's. Each is a function of (seed, step, ``purpose``, sample), so it does
    not depend on other samples or on ranks; all frames of a clip share theirs. Values are taken as the dataset gives
    them: spectrograms are logarithms, in no particular unit, and images are standardised.

    - image, frames: a crop of 30 to 100 % of the area and an aspect of 3/4 to 4/3, resized; half are mirrored;
      brightness, contrast and saturation (the latter of three channels) by up to 40 %, in 80 %; grey in 20 %; blur in
      half. Hue is left alone: it means nothing in standardised values.
    - spectrogram: 60 to 100 % of the time, resized; gain of +-6 dB, as ln 2 added; one block of time and one of
      frequency, at most 15 %, at the sample's mean; noise 15 to 30 dB below the sample's standard deviation.
    - tokens (B, T, D), or a plain vector (B, D): 10 % at zero.
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
    return _pictures(clip, draw).view_as(x)


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


def _pictures(x: Tensor, draw: Draw) -> Tensor:
    """(B, C, T, H, W)."""
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
    """Windows of images (B, C, H, W), resized to (H, W), bilinear. All arguments are (B,): the window's share of height
    and width, in (0, 1], and where it lies, from -1 (top, left) to 1; ``mirror`` -1 flips left and right."""
    zero = torch.zeros_like(high)
    across = wide if mirror is None else wide * mirror
    rows = [torch.stack([across, zero, left * (1 - wide)], 1), torch.stack([zero, high, top * (1 - high)], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Images (B, C, H, W) under a Gaussian of ``sigma`` (B,) pixels, cut off at 5 % of the height (at least one)."""
    reach = max(1, x.shape[2] // 20)
    at = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    weight = torch.softmax(-0.5 * (at / sigma[:, None]) ** 2, 1).repeat_interleave(x.shape[1], 0)  # (B C, K)
    flat = F.pad(x, (reach,) * 4, mode="replicate").flatten(0, 1)[None]
    flat = F.conv2d(flat, weight[:, None, :, None], groups=len(weight))
    return F.conv2d(flat, weight[:, None, None, :], groups=len(weight))[0].view_as(x)


def _block(x: Tensor, axis: int, draw: Draw) -> Tensor:
    """Bool, to go with x: a block of at most 15 % along an axis, per sample."""
    length = x.shape[axis]
    size = 0.15 * length * draw(f"block/{axis}")
    start = (length - size) * draw(f"start/{axis}")
    at = torch.arange(length, device=x.device)
    inside = (at >= start[:, None]) & (at < (start + size)[:, None])
    return inside.view(len(x), *(length if k == axis else 1 for k in range(1, x.ndim)))


def _per_sample(values: Tensor, x: Tensor) -> Tensor:
    """(B,) -> (B, 1, ...), to go with x."""
    return values.view(-1, *[1] * (x.ndim - 1))
