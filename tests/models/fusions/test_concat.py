"""Concatenation, by hand."""

from __future__ import annotations

import torch

from tests.helpers.models import UNEVEN, features, fusion


def test_a_modality_has_its_columns_and_a_share_of_the_bias() -> None:
    made, h = fusion("concat", UNEVEN), features(UNEVEN)
    torch.testing.assert_close(made(h), torch.cat(list(h.values()), 1) @ made.head.weight.T + made.head.bias)
    visual = h["visual"] @ made.head.weight[:, 4:10].T + made.head.bias / 3  # after 4 columns of audio
    torch.testing.assert_close(made.unimodal_logits({"visual": h["visual"]})["visual"], visual)
