"""Fusions against slow or separate ways to the same numbers; missing and dropped modalities; gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.encoders.cnn import CNN
from models.fusions.mmtm import MMTM
from models.model import MultimodalModel
from models.registry import FUSIONS
from ogm.registry import find
from tests.parts import EVEN, SAMPLES, features, fusion, stirred

SHAPES = {"audio": (1, 6, 7), "visual": (2, 2, 6, 6), "text": (1, 8, 5)}
EARLY = [name for name in FUSIONS if find(name, FUSIONS, "fusion").needs != "features"]


def test_late_averages_over_those_that_are_there() -> None:
    made, h = fusion("late", EVEN), features(EVEN)
    there = {
        "visual": torch.tensor([True, False, True, False, True]),
        "text": torch.tensor([True, True, False, False, True]),
    }
    z, said = made(h, there), made.unimodal_logits(h)
    for i in range(5):
        voters = [m for m in EVEN if m not in there or there[m][i]]
        torch.testing.assert_close(z[i], torch.stack([said[m][i] for m in voters]).mean(0))
    prob = fusion("late_prob", EVEN)
    z, said = prob(h, there), prob.unimodal_logits(h)
    for i in range(5):
        voters = [m for m in EVEN if m not in there or there[m][i]]
        torch.testing.assert_close(z[i].exp(), torch.stack([said[m][i].softmax(0) for m in voters]).mean(0))


@pytest.mark.parametrize("name", ["late", "late_prob"])
def test_a_sample_without_any_modality_is_judged_by_biases(name: str) -> None:
    made, h = fusion(name, EVEN), features(EVEN)
    z = made(h, {m: torch.zeros(5, dtype=torch.bool) for m in EVEN})
    torch.testing.assert_close(z, made(h, drop=set(EVEN)))
    assert torch.isfinite(z).all()


def test_symmetric_film_is_what_it_says() -> None:
    made, h = fusion("film_sym", EVEN), features(EVEN)
    parts = []
    for m in EVEN:
        said = [h[k] @ made.generators[m][k].weight.T + made.generators[m][k].bias for k in EVEN if k != m]
        mean = (said[0] + said[1]) / 2
        parts.append(mean[:, :6] * h[m] + mean[:, 6:])
    torch.testing.assert_close(made(h), made.head(torch.cat(parts, 1)))


def test_symmetric_gates_are_what_they_say() -> None:
    made, h = fusion("gated_sym", EVEN), features(EVEN)
    a = {m: made.projections[m](h[m]) for m in EVEN}
    parts = [a[m] / (1 + torch.exp(-sum(a[k] for k in EVEN if k != m) / 2)) for m in EVEN]
    torch.testing.assert_close(made(h), made.head(torch.cat(parts, 1)))


# ---- fusions of maps
def model(name: str, shapes: Mapping[str, tuple[int, ...]] = SHAPES, **options: Any) -> MultimodalModel:
    torch.manual_seed(0)
    encoders = {m: CNN(shape, widths=(4, 8, 6)) for m, shape in shapes.items()}
    made = find(name, FUSIONS, "fusion")({m: e.dim for m, e in encoders.items()}, 3, **options)
    whole: MultimodalModel = stirred(MultimodalModel(encoders, made).double())
    return whole.eval()


def inputs(shapes: Mapping[str, tuple[int, ...]] = SHAPES, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {m: torch.randn(SAMPLES, *shape, generator=g, dtype=torch.float64) for m, shape in shapes.items()}


@pytest.mark.parametrize("name", EARLY)
def test_what_is_absent_or_dropped_sends_nothing(name: str) -> None:
    net, x = model(name), inputs()
    other = {**x, "visual": inputs(seed=1)["visual"]}
    there = torch.tensor([True, False, True, False, True])
    for how in ({"drop": {"visual"}}, {"present": {"visual": there}}):
        rows = ~there if "present" in how else torch.ones_like(there)
        for a, b in ((net.encode(x, **how), net.encode(other, **how)),):
            for m in ("audio", "text"):
                torch.testing.assert_close(a[m][rows], b[m][rows])
    whole, partly = net.encode(x), net.encode(x, {"visual": there})
    for m in x:
        torch.testing.assert_close(whole[m][there], partly[m][there])
    changed = net.encode(other)
    assert not torch.allclose(net(x).logits, net.fuse({**changed, "visual": whole["visual"]}).logits)  # it does matter


@pytest.mark.parametrize("name", EARLY)
def test_samples_do_not_see_each_other(name: str) -> None:
    net, x = model(name), inputs()
    one = net({m: v[2:3] for m, v in x.items()}).logits
    torch.testing.assert_close(net(x).logits[2:3], one)


def test_an_mmtm_gates_all_frames_of_a_clip_alike() -> None:
    unit = stirred(MMTM({"a": 3, "v": 2}, 4).double())
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
    heads = net.fusion.head.head
    torch.testing.assert_close(net(x).logits, torch.stack([heads[m](f) for m, f in features.items()]).mean(0))


def test_the_papers_gate_is_twice_as_open_and_half_as_wide() -> None:
    (ours, *_), (papers, *_) = (model("mmtm", gate=gate).fusion.units for gate in ("sigmoid", "paper"))
    assert ours.squeeze.out_features == 2 * papers.squeeze.out_features == 6
    assert papers.gates["audio"].scale == 2 * ours.gates["audio"].scale


@pytest.mark.parametrize("name", EARLY)
def test_gradients_of_the_exchange_are_right(name: str) -> None:
    shapes = {"audio": (1, 4, 4), "visual": (1, 2, 4, 4)}
    net = model(name, shapes)
    x = [v[:2].requires_grad_() for v in inputs(shapes).values()]
    assert torch.autograd.gradcheck(lambda a, v: net({"audio": a, "visual": v}).logits, x)


@pytest.mark.parametrize("name", EARLY)
def test_closed_boxes_are_refused_in_a_line(name: str) -> None:
    dims = {"audio": 3, "visual": 3}
    with pytest.raises(ValueError, match="does not show") as error:
        MultimodalModel({m: nn.Linear(2, 3) for m in dims}, find(name, FUSIONS, "fusion")(dims, 3))
    assert "\n" not in str(error.value)
