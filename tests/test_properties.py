"""What is known of every fusion and encoder beforehand: parameters, sums, shapes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from benchmarks import listing
from models.registry import ENCODERS, FUSIONS
from ogm.coalitions import responses
from ogm.context import Context
from ogm.registry import find
from ogm.types import Batch, Output
from tests.parts import SAMPLES, UNEVEN, features, fusion

# d = 512 for both of two modalities, 6 classes (spec fusion.md, section 0).
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
OF_FEATURES = [name for name in FUSIONS if find(name, FUSIONS, "fusion").input_kind == "features"]
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


# ---- encoders: options, and the width of the feature with them
ROWS = {
    "cnn": ({}, 64),
    "resnet18": ({}, 512),
    "resnet34": ({}, 512),
    "resnet50": ({}, 2048),
    "mlp": ({"widths": (7, 5)}, 5),
    "transformer": ({"width": 12, "heads": 3}, 12),
    "vit": ({"width": 12, "layers": 2}, 12),
    "conformer": ({"width": 12, "layers": 2}, 12),
}


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("name", ROWS)
def test_encoders_take_any_number_of_channels(name: str, channels: int) -> None:
    options, dim = ROWS[name]
    made = find(name, ENCODERS, "encoder")((channels, 36, 40), **options)
    assert made.dim == dim == made.widths[-1]
    feature = made(torch.randn(2, channels, 36, 40))
    assert feature.shape == (2, dim) and torch.isfinite(feature).all()
    maps = made.fold(torch.randn(2, channels, 36, 40))[0]
    for level, width in zip(made.levels(), made.widths, strict=True):
        maps = level(maps)
        assert maps.shape[1] == width


@pytest.mark.parametrize("name", ["cnn", "resnet18", "vit"])
def test_frames_are_averaged_over_time_however_many(name: str) -> None:
    options, _ = ROWS[name]
    made = find(name, ENCODERS, "encoder")((3, 4, 36, 40), **options).eval()
    clip = torch.randn(2, 3, 5, 36, 40)
    frames = [made(clip[:, :, t]) for t in range(5)]
    torch.testing.assert_close(made(clip), torch.stack(frames).mean(0), rtol=1e-4, atol=1e-5)


def test_every_encoder_has_a_row() -> None:
    assert set(ROWS) == set(ENCODERS)


def test_the_lists_say_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    listing.fusions()
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    for name in FUSIONS:
        assert name in lines
    for name, number in {**PARAMETERS, "mmtm": 65_920 + 262_912 + 1_050_112 + 6_156}.items():
        assert f"{number:,}" in lines[name]
    listing.encoders()
    out = capsys.readouterr().out
    assert all(f" {name} " in out for name in ENCODERS) and "timm:NAME" in out and "11,170,240" in out
