"""MMTM with a concat head, against its parts."""

from __future__ import annotations

import torch

from tests.helpers.models import inputs, model


def test_the_head_is_one_layer_over_all_final_features() -> None:
    net, x = model("mmtm_concat"), inputs()
    output = net(x)
    torch.testing.assert_close(output.logits, net.fusion.head(torch.cat(list(output.features.values()), 1)))
    torch.testing.assert_close(torch.stack(list(output.unimodal_logits.values())).sum(0), output.logits)
