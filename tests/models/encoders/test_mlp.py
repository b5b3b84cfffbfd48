"""The multilayer perceptron, by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.models import encoder


def test_layers_read_the_whole_input_as_one_vector() -> None:
    made, x = encoder("mlp", (2, 3), widths=(5, 4)), torch.randn(7, 2, 3)
    (first, _), (second, _) = made.layers
    torch.testing.assert_close(made(x), F.relu(second(F.relu(first(x.reshape(7, 6))))))


@pytest.mark.parametrize("widths", [(), (4, 0)])
def test_no_layers_and_empty_ones_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one or more layers"):
        encoder("mlp", (4,), widths=widths)
