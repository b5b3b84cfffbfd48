"""Fusions against slow or separate ways to the same numbers; missing and dropped modalities; gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.build import build as built_from
from benchmarks.config import configure
from models.encoder import TokenEncoder
from models.encoders.cnn import CNN
from models.fusions.mbt import MBT, exchange
from models.fusions.mmtm import MMTMUnit
from models.layers import attention
from models.model import MultimodalModel
from models.registry import FUSIONS
from ogm.context import Context
from ogm.registry import find
from ogm.scores import discrepancy_ratios, true_class_scores
from ogm.types import Batch
from tests.parts import EVEN, SAMPLES, features, fusion, stirred
from tests.small import build

SHAPES = {"audio": (1, 6, 7), "visual": (2, 2, 6, 6), "text": (1, 8, 5)}
EARLY = [name for name in FUSIONS if find(name, FUSIONS, "fusion").input_kind != "features"]


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
    changed = net.encode(other)  # present, it does reach the others, but for encoders that are only listened to
    assert torch.equal(changed["audio"], whole["audio"]) == (name == "centralnet")


@pytest.mark.parametrize("name", EARLY)
def test_samples_do_not_see_each_other(name: str) -> None:
    net, x = model(name), inputs()
    one = net({m: v[2:3] for m, v in x.items()}).logits
    torch.testing.assert_close(net(x).logits[2:3], one)


def test_an_mmtm_gates_all_frames_of_a_clip_alike() -> None:
    unit = stirred(MMTMUnit({"a": 3, "v": 2}, 4).double())
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


def test_a_central_network_by_hand() -> None:
    net, x = model("centralnet", sites=2), inputs()
    central = net.fusion
    pooled: dict[str, list[Tensor]] = {m: [] for m in x}
    for m, v in x.items():
        maps = v.transpose(1, 2).flatten(0, 1) if v.ndim == 5 else v
        for number, stage in enumerate(net.encoders[m].encoder.stages):
            maps = stage(maps)
            if number > 0:
                pooled[m].append(maps.mean((2, 3)).view(SAMPLES, -1, maps.shape[1]).mean(1))
    c = torch.zeros(SAMPLES, 1, dtype=torch.float64)
    for number, stage in enumerate(central.stages):
        mixed = sum(a * pooled[m][number] @ stage.projections[m].weight.T for m, a in zip(x, stage.alphas, strict=True))
        mixed = mixed + (0 if stage.alpha_central is None else stage.alpha_central * c)
        c = torch.relu(mixed @ stage.layer.weight.T + stage.layer.bias)
    output = net(x)
    torch.testing.assert_close(output.logits, central.head(c))
    for m, said in output.unimodal_logits.items():
        torch.testing.assert_close(said, central.unimodal_heads[m](pooled[m][-1]))
        assert torch.equal(said, output.aux_logits[m])
    assert [s.alpha_central is None for s in central.stages] == [True, False]


def test_heads_of_a_central_network_learn_from_the_samples_that_have_their_modality() -> None:
    engine = build("vanilla", "centralnet", missing=True)
    batch = engine.loaders["train"].epoch(0)[0]  # type: ignore[index]
    output = engine.model(batch.inputs, batch.present)
    losses = engine.strategy.losses(output, batch, engine)
    assert list(losses) == ["fused", "aux/audio", "aux/visual"]
    there = batch.present["visual"]
    expected = F.cross_entropy(output.aux_logits["visual"][there], batch.label[there])
    torch.testing.assert_close(losses["aux/visual"], expected)


def test_weight_decay_leaves_alphas_alone() -> None:
    engine = built_from(
        configure({"dataset": "synthav", "fusion": "centralnet", "dataset_args.num_train": 64, "weight_decay": 0.5})
    )
    spared = {id(p) for group in engine.optimizer.param_groups if not group["weight_decay"] for p in group["params"]}
    alphas = [p for n, p in engine.model.named_parameters() if "alpha" in n]
    assert spared == {id(p) for p in alphas} and len(alphas) == 5
    assert len(engine.parameters) == len(list(engine.model.parameters()))


def test_attention_is_torchs_and_is_silent_where_nothing_is_to_be_heard() -> None:
    q, k, v = (torch.randn(2, 3, n, 4, dtype=torch.float64) for n in (5, 6, 6))
    torch.testing.assert_close(attention(q, k, v), F.scaled_dot_product_attention(q, k, v))
    keep = torch.rand(2, 1, 5, 6) > 0.4
    keep[0, 0, 2] = False
    heard = attention(q.requires_grad_(), k, v, keep)
    torch.testing.assert_close(heard[0, 0, 3], F.scaled_dot_product_attention(q, k, v, keep)[0, 0, 3])
    assert not heard[0, :, 2].any()
    heard.sum().backward()
    assert torch.isfinite(q.grad).all()
    low = attention(*(x.detach().bfloat16() for x in (q, k, v)))
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.double(), attention(q, k, v), atol=0.05, rtol=0.05)


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


def test_long_maps_become_at_most_64_tokens_of_neighbours() -> None:
    stem = TokenEncoder(CNN((1, 24, 40), widths=(4,)), "audio", 8).double()
    x, modality = torch.randn(2, 1, 24, 40, dtype=torch.float64), stem.modality_embedding
    row = stem.encoder.maps(x).flatten(2)  # 960 positions: 15 to a token
    expected = stem.project(torch.stack([part.mean(2) for part in row.split(15, 2)], 1)) + stem.positions + modality
    torch.testing.assert_close(stem.tokens(x), expected)
    short = stem.tokens(x[..., :29])  # 696 positions: 11 to a token, 3 to the last
    assert short.shape == (2, 64, 8)
    last = stem.project(stem.encoder.maps(x[..., :29]).flatten(2)[..., 693:].mean(2)) + stem.positions[63] + modality
    torch.testing.assert_close(short[:, 63], last)


def test_bottlenecks_of_a_layer_are_read_by_all_streams_alike_and_averaged_over_those_present() -> None:
    streams = {"a": torch.rand(2, 3, 4), "v": torch.rand(2, 5, 4)}
    shared, seen = torch.rand(2, 2, 4), {}

    def block(m: str, factor: float) -> Any:
        def call(both: Tensor) -> Tensor:
            seen[m] = both
            return factor * both

        return call

    weight = torch.tensor([[1.0, 0.0], [1.0, 1.0]])  # the second sample has no a
    out, after = exchange(streams, shared, {"a": block("a", 2.0), "v": block("v", 4.0)}, weight)
    for m, factor in (("a", 2.0), ("v", 4.0)):
        assert torch.equal(seen[m][:, -2:], shared) and torch.equal(out[m], factor * streams[m])
    torch.testing.assert_close(after, torch.stack([3 * shared[0], 4 * shared[1]]))


def test_a_bottleneck_transformer_starts_undecided_and_averages_what_its_streams_say() -> None:
    torch.manual_seed(0)
    encoders = {m: CNN(shape, widths=(4, 8)) for m, shape in SHAPES.items()}
    net = MultimodalModel(encoders, MBT(dict.fromkeys(SHAPES, 8), 3, width=8, heads=2)).double()
    output = net(inputs())
    assert not output.logits.any() and not any(z.any() for z in output.unimodal_logits.values())
    rho = discrepancy_ratios(
        true_class_scores(output.unimodal_logits, Batch({}, torch.arange(5) % 3, torch.arange(5)), Context())
    )
    assert all(float(r) == 1 for r in rho.values())
    output = stirred(net)(inputs())
    torch.testing.assert_close(output.logits, torch.stack(list(output.unimodal_logits.values())).mean(0))
    assert torch.equal(net.fusion.head(output.features["text"]), output.unimodal_logits["text"])


@pytest.mark.parametrize("name", ["gated", "gated_sym", "late_prob", "mmtm", "cross_attn", "mbt"])
def test_gates_and_softmaxes_stay_in_float32_under_autocast(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = build("vanilla", name).model.eval()
    x = build("vanilla", name).loaders["train"].epoch(0)[0].inputs  # type: ignore[index]
    for what in ("sigmoid", "softmax", "log_softmax"):
        real = getattr(torch.Tensor, what)

        def watched(z: Tensor, *args: Any, real: Any = real, **kwargs: Any) -> Tensor:
            assert z.dtype == torch.float32
            return real(z, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, what, watched)
    monkeypatch.setattr(torch, "sigmoid", torch.Tensor.sigmoid)
    with torch.autocast("cpu", torch.bfloat16):
        low = net(x).logits
    torch.testing.assert_close(low.float(), net(x).logits, atol=0.1, rtol=0.1)
