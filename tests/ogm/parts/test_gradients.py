"""What is done to many gradients at once: their noise, whatever their shapes, their layout and their number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.parts.gradients import ROW, gradient_noise, multiply, side_by_side
from ogm.types import Batch

BATCH = Batch({}, torch.zeros(2, dtype=torch.long), torch.arange(2))


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """Parameters with gradients, of several layouts and sizes: of one element, of one row, of several."""
    torch.manual_seed(0)
    images = torch.randn(16, 8, 3, 3).to(memory_format=torch.channels_last)
    clips = torch.randn(4, 2, 3, 3, 3).to(memory_format=torch.channels_last_3d)
    tensors = [images, clips, torch.randn(50, 60).t(), torch.randn(ROW), torch.randn(2 * ROW + 1), torch.randn(1)]
    made = [nn.Parameter(x.to(dtype)) for x in tensors]
    for p in made:
        p.grad = 3 * torch.randn_like(p) + 1
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_noise_has_the_deviation_of_each_gradient(dtype: torch.dtype) -> None:
    made, ctx = parameters(dtype), Context()
    ctx.fill_with_noise = lambda x: x.fill_(1.0)  # type: ignore[method-assign]
    noise = gradient_noise({"audio": made[:2], "visual": made[2:]}, BATCH, ctx)
    for p, eps in zip(made, [*noise["audio"], *noise["visual"]], strict=True):
        assert p.grad is not None
        sigma = p.grad.double().std() if p.numel() > 1 else torch.tensor(0.0, dtype=torch.float64)
        torch.testing.assert_close(eps.double(), (sigma + 1e-8).expand(p.shape), rtol=1e-6, atol=1e-9)


def test_noise_of_all_parameters_is_one_draw_that_step_and_seed_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    made, draws = parameters(), list[Tensor]()
    real = Context.fill_with_noise

    def counted(ctx: Context, x: Tensor) -> None:
        draws.append(x)
        real(ctx, x)

    monkeypatch.setattr(Context, "fill_with_noise", counted)

    def drawn(**ctx: int) -> Tensor:
        return torch.cat([eps.flatten() for eps in gradient_noise({"audio": made}, BATCH, Context(**ctx))["audio"]])

    first = drawn(step=3, seed=1)
    assert len(draws) == 1 and len(first.unique()) > 0.99 * len(first)
    assert torch.equal(first, drawn(step=3, seed=1))
    assert not torch.isclose(first, drawn(step=4, seed=1)).all() and not torch.isclose(first, drawn(step=3)).all()


def test_tensors_side_by_side_have_their_layout_and_do_not_overlap() -> None:
    like = parameters()
    matrix, views = side_by_side(like, torch.float32)
    for number, (view, p) in enumerate(zip(views, like, strict=True), start=1):
        assert view.shape == p.shape
        view.fill_(number)
    assert [int((matrix == number).sum()) for number in range(1, len(like) + 1)] == [p.numel() for p in like]
    assert views[0].stride() == like[0].stride() and views[1].stride() == like[1].stride()


def test_tensors_of_several_types_are_multiplied() -> None:
    tensors = [torch.ones(2, dtype=torch.bfloat16), torch.ones(3), torch.ones(1, dtype=torch.float64)]
    multiply(tensors, torch.tensor(0.1, dtype=torch.float64))
    assert (
        float(tensors[2]) == 0.1 and float(tensors[1][0]) == pytest.approx(0.1) and tensors[0].dtype == torch.bfloat16
    )
    multiply(tensors, 10.0)
    multiply([], 2.0)
    assert all(float(t[0]) == pytest.approx(1, rel=0.01) for t in tensors)
