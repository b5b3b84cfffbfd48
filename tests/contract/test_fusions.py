"""What holds for every fusion: parameters, sums, absence, graphs, precision."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.cli import listing
from models.model import MultimodalModel
from models.registry import FUSIONS
from ogm.context import Context
from ogm.parts.heads import add_parts, additive_parts
from ogm.registry import find
from ogm.shapley import responses
from ogm.types import Batch, Output
from tests.helpers.engines import build
from tests.helpers.models import EVEN, EXCHANGING, OF_FEATURES, SAMPLES, UNEVEN, features, fusion, inputs, model

# d = 512 for both of two modalities, 6 classes.
PARAMETERS = {
    "concat": 6_150,
    "sum": 6_156,
    "late": 6_156,
    "late_prob": 6_156,
    "film": 528_390,
    "film_sym": 1_056_774,
    "gated": 528_390,
    "gated_sym": 531_462,
}
SUMS = {"concat": sum, "sum": sum, "late": lambda said: sum(said) / len(said)}  # how the parts of additive ones add up


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    made = fusion(name, {"audio": 512, "visual": 512}, 6)
    assert sum(p.numel() for p in made.parameters()) == PARAMETERS[name]
    owned = [*made.head_parameters(), *made.fusion_parameters()]
    assert len({id(p) for p in owned}) == len(owned) == len(list(made.parameters()))


@pytest.mark.parametrize(("width", "parameters"), [(128, 65_920), (256, 262_912), (512, 1_050_112)])
def test_parameters_of_an_mmtm_unit(width: int, parameters: int) -> None:
    made = fusion("mmtm", {"audio": 512, "visual": 512}, 6)
    made.build_for({m: SimpleNamespace(widths=(64, 128, 256, 512)) for m in made.dims})
    (unit,) = [u for u in made.units if u.gates["audio"].layer.out_features == width]
    assert sum(p.numel() for p in unit.parameters()) == parameters


@pytest.mark.parametrize("name", FUSIONS)
def test_what_calls_itself_additive_adds_up(name: str) -> None:
    made = fusion(name, UNEVEN)
    assert made.is_additive == (name in SUMS)
    if made.is_additive:
        h = features(UNEVEN)
        torch.testing.assert_close(made(h), SUMS[name](list(made.unimodal_logits(h).values())))
        torch.testing.assert_close(made(h), add_parts(additive_parts(made, made.unimodal_logits(h))))


@pytest.mark.parametrize("name", OF_FEATURES)
def test_shapley_responses_sum_to_the_fused_logits(name: str) -> None:
    made, h = fusion(name, UNEVEN), features(UNEVEN)
    batch = Batch({}, torch.zeros(SAMPLES, dtype=torch.long), torch.arange(SAMPLES))
    output = Output(made(h), made.unimodal_logits(h), h)
    shared = responses(output, batch, Context(model=type("Model", (), {"fusion": made})))
    if made.has_unimodal_heads or made.is_additive:
        assert all(shared[m] is output.unimodal_logits[m] for m in h)
    else:
        torch.testing.assert_close(torch.stack(list(shared.values())).sum(0), output.logits)


@pytest.mark.parametrize("name", OF_FEATURES)
def test_dropping_is_zeroing_and_absence_of_all_is_absence(name: str) -> None:
    made, h = fusion(name, UNEVEN), features(UNEVEN)
    zeroed = {**h, "visual": torch.zeros_like(h["visual"])}
    assert torch.equal(made(h, drop={"visual"}), made(zeroed))
    there = torch.tensor([True, False, True, False, True])
    z = made(h, {"visual": there})
    torch.testing.assert_close(z[there], made(h)[there])
    other = {**h, "visual": h["visual"] + 1}
    assert torch.equal(made(other, {"visual": there})[~there], z[~there])  # what is absent does not matter


@pytest.mark.parametrize("name", OF_FEATURES)
def test_unimodal_logits_carry_a_graph_unless_detached(name: str) -> None:
    made = fusion(name, UNEVEN)
    h = {m: f.requires_grad_() for m, f in features(UNEVEN).items()}
    for m, z in made.unimodal_logits(h).items():
        grads = torch.autograd.grad(z.sum(), list(h.values()), allow_unused=True, retain_graph=True)
        assert [k for k, g in zip(h, grads, strict=True) if g is not None and g.abs().sum() > 0] == [m]
    for m, z in made.unimodal_logits(h, detach=True).items():
        torch.testing.assert_close(z, made.unimodal_logits(h)[m])
        assert not z.requires_grad or torch.autograd.grad(z.sum(), list(h.values()), allow_unused=True) == (None,) * 3


@pytest.mark.parametrize("name", OF_FEATURES)
def test_gradients_are_right(name: str) -> None:
    made = fusion(name, {"audio": 2, "visual": 3}, 3)
    h = [f[:2].requires_grad_() for f in features(made.dims).values()]
    there = {"visual": torch.tensor([True, False])}

    def logits(a: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return made({"audio": a, "visual": v}, there)

    assert torch.autograd.gradcheck(logits, h)


@pytest.mark.parametrize("name", ["late", "late_prob"])
def test_a_sample_without_any_modality_is_judged_by_biases(name: str) -> None:
    made, h = fusion(name, EVEN), features(EVEN)
    z = made(h, {m: torch.zeros(5, dtype=torch.bool) for m in EVEN})
    torch.testing.assert_close(z, made(h, drop=set(EVEN)))
    assert torch.isfinite(z).all()


@pytest.mark.parametrize("name", EXCHANGING)
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


@pytest.mark.parametrize("name", EXCHANGING)
def test_samples_do_not_see_each_other(name: str) -> None:
    net, x = model(name), inputs()
    one = net({m: v[2:3] for m, v in x.items()}).logits
    torch.testing.assert_close(net(x).logits[2:3], one)


@pytest.mark.parametrize("name", EXCHANGING)
def test_gradients_of_the_exchange_are_right(name: str) -> None:
    shapes = {"audio": (1, 4, 4), "visual": (1, 2, 4, 4)}
    net = model(name, shapes)
    x = [v[:1].requires_grad_() for v in inputs(shapes).values()]
    assert torch.autograd.gradcheck(lambda a, v: net({"audio": a, "visual": v}).logits, x)


@pytest.mark.parametrize("name", EXCHANGING)
def test_encoders_that_do_not_show_their_levels_are_refused_in_a_line(name: str) -> None:
    dims = {"audio": 3, "visual": 3}
    with pytest.raises(ValueError, match="does not show") as error:
        MultimodalModel({m: nn.Linear(2, 3) for m in dims}, find(name, FUSIONS, "fusion")(dims, 3))
    assert "\n" not in str(error.value)


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


def test_the_list_says_what_there_is() -> None:
    lines = {line.split()[0]: line for line in listing.fusions() if line.strip()}
    for name in FUSIONS:
        assert name in lines
    for name, number in {**PARAMETERS, "mmtm": 65_920 + 262_912 + 1_050_112 + 6_156}.items():
        assert f"{number:,}" in lines[name]
