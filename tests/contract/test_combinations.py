"""Every encoder feeds every fusion, under methods of every kind, for two and three modalities, or says why not."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from models.model import MultimodalModel
from models.registry import ENCODERS, FUSIONS, encoder_args_from_name, encoder_path
from ogm.engine import Engine
from ogm.registry import STRATEGIES, find
from ogm.seeds import fold_in
from ogm.types import Batch
from tests.helpers.engines import FOUR, FUSION_OPTIONS, THREE, TRAINED, TWO, build, flat, strategy, train
from tests.helpers.models import EXCHANGING

NEW = [name for name in FUSIONS if name not in FOUR]
METHODS = [m for m in ("vanilla", "ogm_ge", "mmpareto", "opm") if m in STRATEGIES]
CLASSES, SAMPLES = 3, 4
TINY: dict[str, dict[str, Any]] = {
    "cnn": {"widths": [4, 8, 8]},
    "mlp": {"widths": [8, 8]},
    "transformer": {"width": 8, "layers": 2, "heads": 2},
    "vit": {"width": 8, "layers": 2, "heads": 2, "patch": 4},
    "conformer": {"width": 8, "layers": 2, "heads": 2, "kernel": 3},
    "text_cnn": {"width": 8, "embedding": 4, "kernel": 3},
}
RESNETS = [name for name in ENCODERS if name not in TINY]
LARGE = [*RESNETS, "torchvision:shufflenet_v2_x0_5", "timm:test_resnet"]
SEQUENCES = ("transformer", "conformer", "text_cnn")


def shape(encoder: str, modality: str) -> tuple[int, ...]:
    if modality == "visual" and encoder not in SEQUENCES:
        return (3, 2, 8, 8)
    return {"audio": (1, 8, 9), "visual": (2, 8, 8), "text": (5, 6) if encoder in SEQUENCES else (2, 8, 8)}[modality]


def one_step(encoders: dict[str, str], fusion: str, method: str) -> None:
    """Build and take one step. Raises ValueError where parts do not fit together."""
    made, g = {}, torch.Generator().manual_seed(1)
    for m, name in encoders.items():
        torch.manual_seed(fold_in(0, m))
        made[m] = find(name, {name: encoder_path(name)}, "encoder")(
            shape(name, m), *encoder_args_from_name(name), **TINY.get(name, {})
        )
    kind = find(fusion, FUSIONS, "fusion")
    fused = kind({m: e.dim for m, e in made.items()}, CLASSES, **FUSION_OPTIONS.get(fusion, {}))
    model, plan = MultimodalModel(made, fused), strategy(method)
    plan.attach(model.encoders, dims=model.fusion.dims, num_classes=CLASSES, num_samples=SAMPLES, fusion=model.fusion)
    groups = [{"params": list(model.parameters())}, *(x for x in plan.param_groups() if x["params"])]
    engine = Engine(model, plan, torch.optim.SGD(groups, lr=0.01), epochs=1)
    inputs = {m: torch.randn(SAMPLES, *shape(name, m), generator=g) for m, name in encoders.items()}
    batch = Batch(inputs, torch.arange(SAMPLES) % CLASSES, torch.arange(SAMPLES))
    before = flat(engine)
    output = plan.step(batch, engine)
    assert output.logits.shape == (SAMPLES, CLASSES) and output.unimodal_logits.keys() == encoders.keys()
    assert {m: f.shape[1] for m, f in output.features.items()} == model.fusion.dims
    after = flat(engine)
    assert torch.isfinite(after).all() and not torch.equal(before, after)
    assert all(model.fusion.dims[m] == e.dim for m, e in model.encoders.items())
    alone = {m: encoder(inputs[m]) for m, encoder in model.encoders.items()}  # as unimodal training uses them
    assert {m: f.shape[1] for m, f in alone.items()} == model.fusion.dims


def combine(encoder: str, modalities: tuple[str, ...], fusion: str, method: str, *, beside: str | None = None) -> None:
    """Take one step with an encoder of every modality; with ``beside``, that one for all but the visual modality.

    A network of another library does not show its levels: fusions that need them must say so in a line.
    """
    if encoder.startswith("timm"):
        pytest.importorskip("timm")
    encoders = {m: encoder if beside is None or m == "visual" else beside for m in modalities}
    if ":" in encoder and fusion in EXCHANGING:
        with pytest.raises(ValueError, match="does not show") as error:
            one_step(encoders, fusion, method)
        assert "\n" not in str(error.value)
    else:
        one_step(encoders, fusion, method)


def turn(encoder: str, fusion: str) -> int:
    return [*TINY, *LARGE].index(encoder) + list(FUSIONS).index(fusion)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("encoder", TINY)
def test_small_encoders(encoder: str, fusion: str) -> None:
    """With two of the methods, in turn: every encoder and every fusion meets each of them."""
    for number, modalities in enumerate((TWO, THREE)):
        combine(encoder, modalities, fusion, METHODS[(turn(encoder, fusion) + 2 * number) % len(METHODS)])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_large_encoders_beside_small_ones(fusion: str) -> None:
    """A ResNet or a network of torchvision, in turn, with one method: it only sees their parameters."""
    number = list(FUSIONS).index(fusion)
    method, modalities = METHODS[number % len(METHODS)], (TWO, THREE)[number // len(METHODS) % 2]
    large = ["resnet18", "torchvision:shufflenet_v2_x0_5"]  # deeper ResNets in test_encoders_in_full
    combine(large[number % len(large)], modalities, fusion, method, beside="cnn")


@pytest.mark.parametrize("fusion", FUSIONS)
def test_networks_of_timm_beside_small_ones(fusion: str) -> None:
    combine("timm:test_resnet", TWO, fusion, METHODS[list(FUSIONS).index(fusion) % len(METHODS)], beside="cnn")


@pytest.mark.long
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("encoder", [*TINY, *LARGE])
def test_encoders_in_full(encoder: str, fusion: str) -> None:
    """Of every modality, with every one of the methods; large ones also beside small ones."""
    for modalities, method in itertools.product((TWO, THREE), METHODS):
        combine(encoder, modalities, fusion, method)
    if encoder in LARGE:
        combine(encoder, TWO, fusion, METHODS[turn(encoder, fusion) % len(METHODS)], beside="cnn")


def train_or_refuse(fusion: str, method: str, modalities: tuple[str, ...], *, missing: bool) -> bool:
    """Train for an epoch and predict without a modality; False if the method refuses, in a line."""
    try:
        engine = build(method, fusion, modalities, missing=missing, size=30)
    except ValueError as error:
        assert "\n" not in str(error)
        return False
    train(engine)
    assert torch.isfinite(flat(engine)).all()
    for output, batch in engine.predict("val", drop={"audio"}):
        assert torch.isfinite(engine.strategy.predict(output)).all() and len(output.logits) == len(batch)
    return True


@pytest.mark.parametrize(
    ("method", "fusion"),
    [  # every second pair in every run, such that each method meets each second fusion and the other way round
        pytest.param(method, fusion, marks=pytest.mark.long if (number + turn) % 2 else ())
        for number, method in enumerate(TRAINED)
        for turn, fusion in enumerate(NEW)
    ],
)
def test_every_method_trains_every_fusion_or_refuses_in_a_line(fusion: str, method: str) -> None:
    """With three modalities, some of them missing; with two where a method refuses three."""
    if not train_or_refuse(fusion, method, THREE, missing=True):
        train_or_refuse(fusion, method, TWO, missing=False)


@pytest.mark.long
@pytest.mark.parametrize("method", TRAINED)
@pytest.mark.parametrize("fusion", NEW)
def test_every_method_trains_every_fusion_with_two_whole_modalities(fusion: str, method: str) -> None:
    train_or_refuse(fusion, method, TWO, missing=False)


@pytest.mark.parametrize("fusion", NEW)
def test_a_new_fusion_resumes_exactly_and_runs_in_bf16(fusion: str) -> None:
    whole, half, resumed = (build("ogm_ge", fusion, seed=s) for s in (0, 0, 7))
    train(whole, 2), train(half, 1)
    resumed.seed = 0
    resumed.load_state_dict(half.state_dict())
    train(resumed, 1)
    assert torch.equal(flat(resumed), flat(whole)) and not torch.equal(flat(half), flat(whole))
    assert torch.isfinite(flat(train(build("ogm_ge", fusion, precision="bf16")))).all()
