"""Sum, by hand."""

from __future__ import annotations

import torch

from tests.helpers.models import UNEVEN, features, fusion


def test_a_modality_has_its_own_layer_with_all_of_its_bias() -> None:
    made, h = fusion("sum", UNEVEN), features(UNEVEN)
    parts = {m: f @ made.head[m].weight.T + made.head[m].bias for m, f in h.items()}
    torch.testing.assert_close(made(h), parts["audio"] + parts["visual"] + parts["text"])
    torch.testing.assert_close(made.unimodal_logits(h), parts)
