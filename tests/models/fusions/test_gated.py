"""Gated fusion, by hand."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.models import UNEVEN, features, fusion


def test_the_value_passes_a_gate_made_of_all_others() -> None:
    made, h = fusion("gated", UNEVEN, value="visual", width=5), features(UNEVEN)
    a = torch.cat([h["audio"], h["text"]], 1) @ made.project_gate.weight.T + made.project_gate.bias
    v = h["visual"] @ made.project_value.weight.T + made.project_value.bias
    torch.testing.assert_close(made(h), made.head(v / (1 + torch.exp(-a))))


def test_the_value_is_the_last_modality_and_its_width_is_kept_unless_told() -> None:
    made = fusion("gated", UNEVEN)
    assert made.value == "text" and made.head.in_features == UNEVEN["text"]
    with pytest.raises(ValueError, match="width=0: must be 1 or more"):
        fusion("gated", UNEVEN, width=0)
