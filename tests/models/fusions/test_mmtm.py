"""MMTM: one unit by hand, and encoders with units in between."""

from __future__ import annotations

import torch

from models.fusions.mmtm import MMTMUnit
from tests.helpers.models import SAMPLES, inputs, model, perturbed


def test_an_mmtm_gates_all_frames_of_a_clip_alike() -> None:
    unit = perturbed(MMTMUnit({"a": 3, "v": 2}, 4).double())
    maps = {"a": torch.rand(2, 3, 5, dtype=torch.float64), "v": torch.rand(2, 2, 4, 3, 3, dtype=torch.float64)}
    gates = {m: gated / maps[m] for m, gated in unit(maps).items()}
    for gate in gates.values():
        torch.testing.assert_close(gate, gate.flatten(2)[..., :1].view(2, -1, *[1] * (gate.ndim - 2)).expand_as(gate))
    squeezed = torch.cat([maps["a"].mean(2), maps["v"].mean((2, 3, 4))], 1)
    e = (squeezed @ unit.squeeze.weight.T + unit.squeeze.bias).clamp_min(0)
    gate = 1 / (1 + torch.exp(-(e @ unit.gates["v"].layer.weight.T + unit.gates["v"].layer.bias)))
    torch.testing.assert_close(gates["v"][:, :, 0, 0, 0], gate)


def test_mmtm_is_encoders_with_units_in_between() -> None:
    net, x = model("mmtm", sites=2), inputs()
    maps = {m: v.transpose(1, 2).flatten(0, 1) if v.ndim == 5 else v for m, v in x.items()}
    for number in (0, 1, 2):
        maps = {m: net.encoders[m].stages[number](v) for m, v in maps.items()}
        if number > 0:
            clips = {**maps, "visual": maps["visual"].view(SAMPLES, 2, *maps["visual"].shape[1:]).transpose(1, 2)}
            gated = net.fusion.units[number - 1](clips)
            maps = {**gated, "visual": gated["visual"].transpose(1, 2).flatten(0, 1)}
    features = {m: v.mean((2, 3)) for m, v in maps.items()}
    features["visual"] = features["visual"].view(SAMPLES, 2, -1).mean(1)
    for m, f in net.encode(x).items():
        torch.testing.assert_close(f, features[m])
    heads = net.fusion.head
    torch.testing.assert_close(net(x).logits, torch.stack([heads[m](f) for m, f in features.items()]).mean(0))


def test_the_papers_gate_is_twice_as_open_and_half_as_wide() -> None:
    (ours, *_), (papers, *_) = (model("mmtm", gate=gate).fusion.units for gate in ("sigmoid", "paper"))
    assert ours.squeeze.out_features == 2 * papers.squeeze.out_features == 6
    assert papers.gates["audio"].scale == 2 * ours.gates["audio"].scale
