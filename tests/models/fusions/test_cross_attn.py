"""Cross-attention: subsets of modalities from features alone."""

from __future__ import annotations

import torch

from tests.helpers.models import SAMPLES, inputs, model


def test_cross_attention_judges_every_subset_from_features_alone() -> None:
    net, x = model("cross_attn", width=8, heads=2), inputs()
    features = net.encode(x)
    for gone in ({"visual"}, {"audio", "text"}):
        there = {m: torch.zeros(SAMPLES, dtype=torch.bool) for m in gone}
        whole = net.fusion(features, drop=gone)
        torch.testing.assert_close(whole, net.fusion(net.encode(x, drop=gone), drop=gone))
        torch.testing.assert_close(whole, net.fuse(net.encode(x, there), there).logits)
    (alone,) = {m: z for m, z in net(x).unimodal_logits.items() if m == "visual"}.values()
    torch.testing.assert_close(alone, net.fusion(features, drop={"audio", "text"}))
    assert torch.equal(net.encoders["audio"](x["audio"]), net.encode(x, drop={"visual", "text"})["audio"])
