"""FiLM, by hand."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.models import UNEVEN, features, fusion


def test_the_target_is_scaled_and_shifted_by_all_others() -> None:
    made, h = fusion("film", UNEVEN, target="visual"), features(UNEVEN)
    scale_shift = torch.cat([h["audio"], h["text"]], 1) @ made.generator.weight.T + made.generator.bias
    torch.testing.assert_close(made(h), made.head(scale_shift[:, :6] * h["visual"] + scale_shift[:, 6:]))


def test_the_target_is_the_last_modality_unless_named() -> None:
    assert fusion("film", UNEVEN).target == "text"
    with pytest.raises(ValueError, match="target='smell': there are audio, visual, text"):
        fusion("film", UNEVEN, target="smell")
