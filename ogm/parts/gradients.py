"""Coefficients, noise and clipping of gradients, of many tensors at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.types import Batch

Variant = Literal["paper", "acc", "journal"]
Tensors = list[Tensor] | tuple[Tensor, ...]  # what torch takes as a list of tensors
Factor = Tensor | float | list[Tensor]
ROW = 1024  # tensors that are side by side in one matrix begin in rows of their own, of this length


def modulation_coefficients(rho: Mapping[str, Tensor], alpha: float, variant: Variant = "paper") -> Tensor:
    """Compute the coefficients of OGM's gradients (Peng et al., CVPR 2022, eq. 10).

    Args:
        rho: Modality -> 0-dim discrepancy ratio; above 1 for a modality that leads.
        alpha: Strength of the modulation.
        variant: Formula, see ``OGM``.

    Returns:
        (M,) k_m in the order of the modalities. NaN where rho_m is NaN.
    """
    r = torch.stack(list(rho.values()))
    if variant == "acc":
        return (1 + torch.tanh(alpha / r)).masked_fill(r >= 1, 1.0)
    if variant == "journal":
        return (1 - alpha * torch.tanh(r - 1)).clamp_min(0).masked_fill(r <= 1, 1.0)
    return (1 - torch.tanh(alpha * r)).masked_fill(r <= 1, 1.0)


def finite_or_one(k: Tensor, ctx: Context) -> Tensor:
    """Replace coefficients that are not finite by 1, and log how many there were.

    Args:
        k: (M,) coefficients.
        ctx: Where to log, and whether to raise.

    Returns:
        (M,) finite coefficients.

    Raises:
        FloatingPointError: If one is not finite and ``ctx.debug`` is set.
    """
    finite = k.nan_to_num(nan=1.0, posinf=1.0, neginf=1.0)
    bad = finite != k
    if ctx.debug and bool(bad.any()):
        raise FloatingPointError(f"a coefficient is not finite at step {ctx.step}: {k}")
    ctx.log(coefficients_not_finite=bad.sum())
    return finite


# ---- many tensors at once: on a GPU, an operation on a list of tensors is a few launches, whatever its length
def gradients_of(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Return the gradients of those parameters that have one."""
    return [p.grad for p in parameters if p.grad is not None]


def multiply(tensors: Tensors, k: Factor) -> None:
    """Multiply many tensors by one factor, or each by its own, in place.

    Args:
        tensors: Tensors of any shape; there may be none.
        k: The factor, a 0-dim tensor or a number, or a list of one 0-dim tensor for each.
    """
    if isinstance(k, list):
        torch._foreach_mul_(tensors, k)
        return
    for dtype in dict.fromkeys(t.dtype for t in tensors):
        same = [t for t in tensors if t.dtype == dtype]
        if isinstance(k, Tensor):
            torch._foreach_mul_(same, k.to(dtype))  # of another type it would be multiplied tensor by tensor
        else:
            torch._foreach_mul_(same, k)


def add(tensors: Tensors, others: Tensors) -> None:
    """Add to each of many tensors another of its shape, in place; there may be none."""
    if tensors:
        torch._foreach_add_(tensors, others)


def squared_norms(tensors: Tensors) -> Tensor:
    """Compute the squared Euclidean norm of each of many tensors.

    Args:
        tensors: One or more tensors of any shape.

    Returns:
        (number of tensors,) squared norms, float64.
    """
    return torch.stack(torch._foreach_norm(tensors, 2, dtype=torch.float64)).square()


def clip_gradients(parameters: Iterable[nn.Parameter], norm: float, where: Tensor | None = None) -> None:
    """Clip all gradients together to a norm, without waiting for the device.

    Args:
        parameters: The parameters whose gradients are clipped, if they have one.
        norm: The largest norm allowed.
        where: 0-dim bool, the condition for it; None: always.
    """
    gradients = gradients_of(parameters)
    total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if where is not None:
        total = torch.where(where, total, 0.0)
    multiply(gradients, (norm / (total + 1e-6)).clamp(max=1.0))  # as torch's own, which 2.4 lacks


# ---- noise
def gradient_noise(
    parameters: Mapping[str, Sequence[nn.Parameter]], batch: Batch, ctx: Context
) -> dict[str, list[Tensor]]:
    """Draw the noise of OGM-GE for many gradients: eps ~ N(0, sigma^2), sigma the standard deviation of the gradient.

    One draw makes the noise of all of them. If the batch says which modalities are present and no sample of the global
    batch has all of them, the noise is 0.

    Args:
        parameters: Modality -> parameters with gradients; all modalities, and one parameter or more.
        batch: The batch of this step.
        ctx: Step number, seed and communication between ranks.

    Returns:
        Modality -> eps for each parameter, in its shape; views of one matrix.
    """
    every = [p for several in parameters.values() for p in several]
    gradients = gradients_of(every)
    matrix, noise = side_by_side(every, torch.promote_types(gradients[0].dtype, torch.float32))
    torch._foreach_copy_(noise, gradients)
    sigma = standard_deviations(matrix, [g.numel() for g in gradients])
    if batch.present:
        sigma = sigma * (ctx.total(batch.has_all(parameters).sum()) > 0)
    ctx.fill_with_noise(matrix)  # in the place of the gradients' copies: memory for one of them is enough
    torch._foreach_mul_(noise, sigma.to(matrix.dtype).unbind())
    rest = iter(noise)
    return {m: list(itertools.islice(rest, len(several))) for m, several in parameters.items()}


def side_by_side(like: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """Make room for many tensors in one matrix, each from the beginning of a row on.

    Args:
        like: Tensors that give shapes, and their layout in memory: one that is contiguous but for its channels, which
            come last, has such a view. The first gives the device.
        dtype: Type of the matrix.

    Returns:
        The matrix (rows, ROW), all zeros; a view of it for each tensor.
    """
    rows = [rows_of(t.numel()) for t in like]
    matrix = torch.zeros(sum(rows), ROW, dtype=dtype, device=like[0].device)
    views = []
    for t, part in zip(like, torch.split(matrix, rows), strict=True):
        values = part.flatten()[: t.numel()]
        last = t.movedim(1, -1) if t.ndim > 2 else t
        contiguous = t.is_contiguous() or not last.is_contiguous()
        views.append(values.view(t.shape) if contiguous else values.view(last.shape).movedim(-1, 1))
    return matrix, views


def rows_of(numel: int) -> int:
    """Number of rows that a tensor of so many elements fills."""
    return -(-numel // ROW)


def standard_deviations(matrix: Tensor, sizes: Sequence[int]) -> Tensor:
    """Compute the standard deviation of each of many tensors: of the noise of OGM-GE.

    Args:
        matrix: (rows, ROW) the tensors, as ``side_by_side`` has them.
        sizes: Number of elements of each.

    Returns:
        (number of tensors,) sigma = unbiased std over all elements + 1e-8, float64; 1e-8 for a tensor of one element.
    """
    n, rows = torch.tensor([sizes, [rows_of(size) for size in sizes]]).to(matrix.device, non_blocking=True)
    norms = torch.linalg.vector_norm(matrix, dim=1).double()
    total, squares = (
        torch.segment_reduce(of_rows, "sum", lengths=rows, unsafe=True)  # unsafe: it does not wait for the device
        for of_rows in (matrix.sum(1).double(), norms.square())
    )
    variance: Tensor = (squares - total.square() / n) / (n - 1).clamp_min(1)
    return variance.clamp_min(0).sqrt() + 1e-8


# ---- updates
class ScaledUpdate:
    """Updates of parameters that are multiplied after the optimizer's step.

    Args:
        parameters: One or more parameters, before the step.
        k: The factor, see ``multiply``.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], k: Factor) -> None:
        self.parameters, self.k = [p.detach() for p in parameters], k
        self.before = [torch.empty_like(p) for p in self.parameters]
        torch._foreach_copy_(self.before, self.parameters)

    def apply(self) -> None:
        """Set each parameter to before + k (after - before)."""
        update = torch._foreach_sub(self.parameters, self.before)
        multiply(update, self.k)
        add(update, self.before)
        torch._foreach_copy_(self.parameters, update)
