"""The convolution over texts."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.models import encoder


def test_it_finds_a_pattern_wherever_it_stands_however_long_the_text() -> None:
    made, word = encoder("text_cnn", (40, 6), width=8, embedding=4, kernel=3), torch.randn(1, 5, 6)
    texts = [torch.zeros(1, length, 6) for length in (12, 40, 40)]
    for text, start in zip(texts, (3, 3, 30), strict=True):
        text[:, start : start + 5] = word
    first, *others = [made(text) for text in texts]
    for other in others:
        torch.testing.assert_close(other, first)


def test_one_text_by_hand() -> None:
    made, x = encoder("text_cnn", (5, 3), width=8, embedding=4, kernel=3), torch.randn(2, 5, 3)
    embedded = x @ made.embedding.weight.T
    maps = torch.nn.functional.conv1d(embedded.mT, made.convolution.weight, made.convolution.bias, padding=1)
    torch.testing.assert_close(made(x), maps.clamp(min=0).amax(2))


@pytest.mark.parametrize("options", [{"kernel": 4}, {"kernel": 0}, {"width": 0}, {"embedding": 0}])
def test_sizes_that_will_not_do_are_refused_in_a_line(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="each 1 or more, the kernel odd") as error:
        encoder("text_cnn", (5, 3), **options)
    assert "\n" not in str(error.value)
