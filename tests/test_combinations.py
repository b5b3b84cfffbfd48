"""Every encoder feeds every fusion, under methods of every kind, for two and three modalities, or says why not."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from benchmarks.build import encoder_class
from models.model import MultimodalModel
from models.registry import ENCODERS, FUSIONS, encoder_args_from_name
from ogm.context import fold_in
from ogm.engine import Engine
from ogm.registry import STRATEGIES, find
from ogm.types import Batch
from tests.small import FOUR, FUSION_OPTIONS, THREE, TRAINED, TWO, build, flat, refusal, strategy, train

NEW = [name for name in FUSIONS if name not in FOUR]
EARLY = [name for name in FUSIONS if find(name, FUSIONS, "fusion").input_kind != "features"]
METHODS = [m for m in ("vanilla", "ogm_ge", "mmpareto", "opm") if m in STRATEGIES]
CLASSES, SAMPLES = 3, 4
TINY: dict[str, dict[str, Any]] = {
    "cnn": {"widths": [4, 8, 8]},
    "mlp": {"widths": [8, 8]},
    "transformer": {"width": 8, "layers": 2, "heads": 2},
    "vit": {"width": 8, "layers": 2, "heads": 2, "patch": 4},
    "conformer": {"width": 8, "layers": 2, "heads": 2, "kernel": 3},
}
LARGE = [*(name for name in ENCODERS if name not in TINY), "torchvision:shufflenet_v2_x0_5", "timm:test_resnet"]
SEQUENCES = ("transformer", "conformer")


def shape(encoder: str, modality: str) -> tuple[int, ...]:
    if modality == "visual" and encoder not in SEQUENCES:
        return (3, 2, 8, 8)
    return {"audio": (1, 8, 9), "visual": (2, 8, 8), "text": (5, 6) if encoder in SEQUENCES else (2, 8, 8)}[modality]


def one_step(encoders: dict[str, str], fusion: str, method: str) -> None:
    """Build and take one step. Raises ValueError where parts do not fit together."""
    made, g = {}, torch.Generator().manual_seed(1)
    for m, name in encoders.items():
        torch.manual_seed(fold_in(0, m))
        made[m] = encoder_class(name)(shape(name, m), *encoder_args_from_name(name), **TINY.get(name, {}))
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


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("encoder", TINY)
def test_small_encoders(encoder: str, fusion: str) -> None:
    for modalities, method in itertools.product((TWO, THREE), METHODS):
        one_step(dict.fromkeys(modalities, encoder), fusion, method)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("encoder", LARGE)
def test_large_encoders_beside_small_ones(encoder: str, fusion: str) -> None:
    """With one method each, in turn: what a method sees of an encoder are its parameters."""
    if encoder.startswith("timm"):
        pytest.importorskip("timm")
    turn = LARGE.index(encoder) + list(FUSIONS).index(fusion)
    method, modalities = METHODS[turn % len(METHODS)], (TWO, THREE)[turn // len(METHODS) % 2]
    encoders = {m: encoder if m == "visual" else "cnn" for m in modalities}
    if ":" in encoder and fusion in EARLY:
        with pytest.raises(ValueError, match="does not show") as error:
            one_step(encoders, fusion, method)
        assert "\n" not in str(error.value)
    else:
        one_step(encoders, fusion, method)


@pytest.mark.long
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("encoder", LARGE)
def test_large_encoders_in_full(encoder: str, fusion: str) -> None:
    """Of every modality, with every one of the methods."""
    if encoder.startswith("timm"):
        pytest.importorskip("timm")
    for modalities, method in itertools.product((TWO, THREE), METHODS):
        if ":" in encoder and fusion in EARLY:
            with pytest.raises(ValueError, match="does not show"):
                one_step(dict.fromkeys(modalities, encoder), fusion, method)
        else:
            one_step(dict.fromkeys(modalities, encoder), fusion, method)


@pytest.mark.parametrize("method", TRAINED)
@pytest.mark.parametrize("fusion", NEW)
def test_every_method_trains_every_fusion_or_refuses_in_a_line(fusion: str, method: str) -> None:
    for modalities, missing in ((TWO, False), (THREE, True)):
        why = refusal(method, fusion, modalities, missing=missing)
        if why is not None:
            assert "\n" not in why
            continue
        engine = train(build(method, fusion, modalities, missing=missing, size=30))
        assert torch.isfinite(flat(engine)).all()
        for output, batch in engine.predict("val", drop={"audio"}):
            assert torch.isfinite(engine.strategy.predict(output)).all() and len(output.logits) == len(batch)


@pytest.mark.parametrize("fusion", NEW)
def test_a_new_fusion_resumes_exactly_and_runs_in_bf16(fusion: str) -> None:
    whole, half, resumed = (build("ogm_ge", fusion, seed=s) for s in (0, 0, 7))
    train(whole, 2), train(half, 1)
    resumed.seed = 0
    resumed.load_state_dict(half.state_dict())
    train(resumed, 1)
    assert torch.equal(flat(resumed), flat(whole)) and not torch.equal(flat(half), flat(whole))
    assert torch.isfinite(flat(train(build("ogm_ge", fusion, precision="bf16")))).all()
