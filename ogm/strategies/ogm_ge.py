"""OGM with generalisation enhancement: the noise that a slowed gradient has lost is given back."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ogm.context import Context
from ogm.strategies.ogm import OGM
from ogm.strategy import Scope, Target
from ogm.types import Batch


class OGMGE(OGM):
    """Peng et al., CVPR 2022 (arXiv 2203.15332), eq. 11-12: OGM, then Gaussian noise on every encoder's gradient.

    Inside the epoch window every tensor in scope, of the modalities that keep their pace too, gets noise with the
    standard deviation of its gradient *before* scaling (``noise="raw_std"``, the released code since May 2022;
    ``"scaled_std"`` is the code before that). ``variant`` is the coefficient's, as in OGM. Noise is a function of
    (seed, step, parameter): equal on every rank and after a resume. With ``target="update"`` it goes through
    the optimizer and is shortened with the update. The window is OGM's: it does not end in a run of 20 epochs.
    """

    category = "gradient"
    paper = "Peng et al., CVPR 2022"
    touches = "weights"

    def __init__(
        self,
        alpha: float = 0.3,
        *,
        variant: Literal["paper", "journal"] = "paper",
        noise: Literal["raw_std", "scaled_std"] = "raw_std",
        multi: Literal["pairwise_mean", "min_ratio"] = "pairwise_mean",
        scope: Scope = "weights",
        target: Target = "grad",
        start: int = 0,
        end: int | None = 50,
    ) -> None:
        super().__init__(alpha, variant=variant, multi=multi, scope=scope, target=target, start=start, end=end)
        self.noise = noise

    def edit(self, parameter: nn.Parameter, k: Tensor, number: int, batch: Batch, ctx: Context) -> None:
        assert parameter.grad is not None
        sigma = deviation(parameter.grad) * (k if self.noise == "scaled_std" else 1.0)
        super().edit(parameter, k, number, batch, ctx)
        add_noise(parameter.grad, sigma, number, batch, self.modalities, ctx)


def deviation(grad: Tensor) -> Tensor:
    """sigma, 0-dim: unbiased standard deviation of a gradient tensor's entries, plus 1e-8; one entry has none."""
    return (grad.std() if grad.numel() > 1 else grad.new_zeros(())) + 1e-8


def add_noise(
    grad: Tensor, sigma: Tensor, number: int, batch: Batch, modalities: tuple[str, ...], ctx: Context
) -> None:
    """grad += sigma * N(0, 1), unless no sample of the global batch has all the modalities (then nothing is known)."""
    if batch.present:
        sigma = sigma * (ctx.total(batch.have(modalities).sum()) > 0).to(sigma.dtype)
    grad.add_(sigma * ctx.noise_like(grad, number))
