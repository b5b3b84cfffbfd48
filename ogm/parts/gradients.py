"""Coefficients, noise and clipping of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.types import Batch

Variant = Literal["paper", "acc", "journal"]


def modulation_coefficients(rho: Mapping[str, Tensor], alpha: float, variant: Variant = "paper") -> dict[str, Tensor]:
    """Compute the coefficients of OGM's gradients (Peng et al., CVPR 2022, eq. 10).

    Args:
        rho: Modality -> 0-dim discrepancy ratio; above 1 for a modality that leads.
        alpha: Strength of the modulation.
        variant: Formula, see ``OGM``.

    Returns:
        Modality -> 0-dim k_m. NaN where rho_m is NaN.
    """
    if variant == "acc":
        return {m: torch.where(r >= 1, 1.0, 1 + torch.tanh(alpha / r)) for m, r in rho.items()}
    if variant == "journal":
        return {m: torch.where(r <= 1, 1.0, (1 - alpha * torch.tanh(r - 1)).clamp_min(0)) for m, r in rho.items()}
    return {m: torch.where(r <= 1, 1.0, 1 - torch.tanh(alpha * r)) for m, r in rho.items()}


def finite_or_one(k: Mapping[str, Tensor], ctx: Context) -> dict[str, Tensor]:
    """Replace coefficients that are not finite by 1, and log how many there were.

    Args:
        k: Modality -> 0-dim coefficient.
        ctx: Where to log, and whether to raise.

    Returns:
        Modality -> 0-dim finite coefficient.

    Raises:
        FloatingPointError: If one is not finite and ``ctx.debug`` is set.
    """
    bad = torch.stack([~torch.isfinite(coefficient) for coefficient in k.values()])
    if ctx.debug and bool(bad.any()):
        raise FloatingPointError(f"a coefficient is not finite at step {ctx.step}: {k}")
    ctx.log(coefficients_not_finite=bad.sum())
    return {m: torch.where(torch.isfinite(coefficient), coefficient, 1.0) for m, coefficient in k.items()}


def noise_deviation(grad: Tensor) -> Tensor:
    """Compute the standard deviation of OGM-GE's noise for one gradient tensor.

    Args:
        grad: Gradient of any shape.

    Returns:
        0-dim sigma = unbiased std over all elements + 1e-8; 1e-8 for a tensor of one element.
    """
    return (grad.std() if grad.numel() > 1 else grad.new_zeros(())) + 1e-8


def add_noise(
    grad: Tensor, sigma: Tensor, number: int, batch: Batch, modalities: tuple[str, ...], ctx: Context
) -> None:
    """Add N(0, sigma^2) noise to a gradient, in place: grad <- grad + sigma N(0, 1).

    If the batch says which modalities are present and no sample of the global batch has all of them, no noise is added.

    Args:
        grad: Gradient of any shape.
        sigma: 0-dim standard deviation.
        number: Number of the parameter among all encoder parameters; it selects the random stream.
        batch: The batch of this step.
        modalities: Names of all modalities.
        ctx: Step number, seed and communication between ranks.
    """
    if batch.present:
        sigma = sigma * (ctx.total(batch.has_all(modalities).sum()) > 0).to(sigma.dtype)
    grad.add_(sigma * ctx.noise_like(grad, number))


def clip_gradients_where(condition: Tensor, parameters: list[nn.Parameter], norm: float) -> None:
    """Clip all gradients together to a norm if a condition on the device holds, without waiting for the device.

    Args:
        condition: 0-dim bool.
        parameters: The parameters whose gradients are clipped.
        norm: The largest norm allowed.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    total = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    factor = (norm / (torch.where(condition, total, 0.0) + 1e-6)).clamp(max=1.0)  # as torch's own, which 2.4 lacks
    for gradient in gradients:
        gradient.mul_(factor)


def scaled_update(before: Tensor, after: Tensor, k: Tensor | float) -> Tensor:
    """Multiply the update from ``before`` to ``after`` by k.

    Args:
        before: Value of a parameter before the optimizer step.
        after: Its value afterwards, in the same shape.
        k: The factor.

    Returns:
        Before + k (after - before).
    """
    return before + k * (after - before)
