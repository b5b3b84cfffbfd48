"""Networks of torchvision, by name."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.models import encoder


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "regnet_y_400mf"])
def test_any_network_of_torchvision(name: str) -> None:
    made = encoder(f"torchvision:{name}", (2, 3, 40, 48))
    y = made(torch.randn(2, 2, 3, 40, 48))
    assert y.shape == (2, made.dim)
    y.sum().backward()
    assert all(p.grad is not None for p in made.parameters())  # nothing is left of the classifier


@pytest.mark.parametrize(
    ("name", "shape", "why"),
    [
        ("resnet19", (3, 32, 32), "no classification network 'resnet19'; near it: resnet18"),
        ("inception_v3", (3, 32, 32), "cannot take inputs of shape"),
        ("vit_b_16", (3, 32, 48), "takes square images, not 32 x 48"),
    ],
)
def test_inputs_and_names_that_will_not_do(name: str, shape: tuple[int, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        encoder(f"torchvision:{name}", shape)
    assert "\n" not in str(error.value)
