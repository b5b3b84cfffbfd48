"""What every strategy promises, whatever it does. A new method is in here by being registered."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.engines import (
    CLASSES_OF,
    FOUR,
    JOINT,
    METHODS,
    THREE,
    TRAINED,
    TWO,
    WINDOWED,
    build,
    digest,
    flat,
    refusal,
    strategy,
    train,
)
from tests.helpers.methods import gradients, one_hot_logits, run_once

Q64 = {"dtype": torch.float64}


def train_or_refuse(method: str, fusion: str, modalities: tuple[str, ...], missing: bool) -> None:
    """Train for two epochs and predict, or see that the refusal is one line, for a reason that was declared."""
    try:
        engine = build(method, fusion, modalities, missing=missing)
    except ValueError as error:
        assert "\n" not in str(error)
        declared = CLASSES_OF[method]
        assert declared.needs_additive or declared.needs_concat or declared.most_modalities == 2
        return
    assert torch.isfinite(flat(train(engine, 2))).all()
    output, batch = next(iter(engine.predict("val")))
    assert engine.strategy.predict(output).shape == (len(batch), 4)
    assert all(torch.isfinite(z).all() for z in (output.logits, *output.unimodal_logits.values()))


@pytest.mark.parametrize(
    ("fusion", "modalities", "missing"),
    [("concat", THREE, False), ("sum", TWO, True), ("film", THREE, True), ("gated", TWO, False)],
)
@pytest.mark.parametrize("method", TRAINED)
def test_trains_with_every_fusion_or_refuses(
    method: str, fusion: str, modalities: tuple[str, ...], missing: bool
) -> None:
    train_or_refuse(method, fusion, modalities, missing)


@pytest.mark.long
@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
@pytest.mark.parametrize("fusion", FOUR)
@pytest.mark.parametrize("method", TRAINED)
def test_trains_in_every_combination_or_refuses(
    method: str, fusion: str, modalities: tuple[str, ...], missing: bool
) -> None:
    train_or_refuse(method, fusion, modalities, missing)


@pytest.mark.parametrize("method", TRAINED)
def test_a_resumed_run_is_the_same_run(method: str, tmp_path: Path) -> None:
    whole = train(build(method), 2)
    at_two = digest(whole)
    torch.save(whole.state_dict(), tmp_path / "checkpoint.pt")
    train(whole, 2)
    resumed = build(method, seed=7)  # other weights, until they are loaded
    resumed.seed = 0
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    train(resumed, 2)
    assert digest(resumed) == digest(whole) and resumed.curves == whole.curves
    assert digest(whole) != at_two  # the two epochs in between did something


@pytest.mark.parametrize(
    ("method", "fusion", "options"),
    [
        ("reconboost", "concat", {"boost_epochs": 3, "rectify_epochs": 1}),
        ("gblend", "concat", {"super_epoch": 3}),
        ("gblend", "film", {"mode": "offline"}),
        ("greedy", "mmtm", {}),
        ("modality_valuation", "film", {"level": "modality"}),
        ("diagnosing_relearning", "concat", {"period": 2}),
        ("pmr", "gated", {"momentum": 0.5, "coefficient": "clipped"}),
    ],
)
def test_a_run_resumed_within_a_phase_is_the_same_run(method: str, fusion: str, options: dict[str, Any]) -> None:
    if method == "diagnosing_relearning":
        pytest.importorskip("sklearn")  # ogm's extra "relearning"
    whole = train(build(method, fusion, options=options), 2)
    state = copy.deepcopy(whole.state_dict())
    train(whole, 2)
    resumed = build(method, fusion, seed=7, options=options)
    resumed.seed = 0
    resumed.load_state_dict(state)
    assert torch.equal(flat(train(resumed, 2)), flat(whole)) and resumed.curves == whole.curves


@pytest.mark.parametrize("method", [m for m in TRAINED if not CLASSES_OF[m].needs_whole_batch])
def test_micro_batches_are_the_whole_batch(method: str) -> None:
    whole, parts = build(method, **Q64), build(method, micro_batch=5, **Q64)
    train(whole), train(parts)
    assert (flat(whole) - flat(parts)).abs().max() < 1e-10
    for name, curve in whole.curves.items():
        if name.startswith("loss/"):
            assert parts.curves[name] == pytest.approx(curve, abs=1e-9), name


@pytest.mark.parametrize("method", WINDOWED)
def test_outside_its_window_a_method_is_vanilla(method: str) -> None:
    closed = train(build(method, options={"start": 5}), 2)
    assert digest(closed) == digest(train(build("vanilla"), 2))
    assert digest(train(build(method))) != digest(train(build("vanilla")))
    edge = build(method, options={"start": 1, "end": 1})  # both ends count
    assert digest(train(edge)) == digest(train(build("vanilla")))
    assert digest(train(edge)) != digest(train(build("vanilla"), 2))


@pytest.mark.parametrize("fusion", FOUR)
@pytest.mark.parametrize("method", [m for m in JOINT if CLASSES_OF[m].touches != "everything"])
def test_only_what_is_in_scope_changes(method: str, fusion: str) -> None:
    if refusal(method, fusion) is not None:
        return
    before, after = gradients("vanilla", fusion), gradients(method, fusion)
    scope = CLASSES_OF[method].touches
    for name, grad in before.items():
        inside = name.startswith("encoders.") and (grad.ndim > 1 or scope == "encoders")
        if scope == "nothing" or not inside:
            assert torch.equal(grad, after[name]), name
    assert scope == "nothing" or any(not torch.equal(grad, after[name]) for name, grad in before.items())


@pytest.mark.parametrize("method", ["ogm", "weak_boost"])
def test_coefficients_follow_their_modality(method: str) -> None:
    straight, _ = run_once(method, *one_hot_logits(audio=3.0, visual=1.0, text=0.2))
    swapped, _ = run_once(method, *one_hot_logits(text=0.2, audio=3.0, visual=1.0))
    renamed, _ = run_once(method, *one_hot_logits(x=3.0, y=1.0, z=0.2))
    for a, x in zip(("audio", "visual", "text"), "xyz", strict=True):
        for what in ("coefficient", "discrepancy_ratio"):
            assert straight[f"{what}/{a}"] == swapped[f"{what}/{a}"] == renamed[f"{what}/{x}"]
    assert len({float(straight[f"coefficient/{m}"]) for m in ("audio", "visual", "text")}) > 1


def test_no_two_methods_are_the_same() -> None:
    later = {"mses", "miles"}  # act after more than two epochs here; what they do: tests/ogm/strategies/
    shown = [m for m in TRAINED if m not in later]
    made = {method: digest(train(build(method), 2)) for method in shown}  # some begin with what the first taught
    assert len(set(made.values())) == len(made), made


@pytest.mark.parametrize(("fusion", "missing"), [("concat", False), ("film", True)])
@pytest.mark.parametrize("method", [m for m in JOINT if not CLASSES_OF[m].waits])
def test_nothing_waits_for_the_device(method: str, fusion: str, missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if refusal(method, fusion) is not None:
        return
    engine = train(build(method, fusion, missing=missing, max_norm=None))
    batch = engine.loaders["train"].epoch(1)[0]  # type: ignore[index]

    def waits(*_: object, **__: object) -> None:
        raise AssertionError("the host waits for the device")

    engine.update = lambda: None  # type: ignore[method-assign]         # torch's own optimizers look at host numbers
    for name in ("item", "__bool__", "__float__", "__int__", "__index__", "tolist", "nonzero", "cpu", "numpy"):
        monkeypatch.setattr(Tensor, name, waits)
    engine.strategy.step(batch, engine)


# ---- edges
@pytest.mark.parametrize(
    "method", ["mmpareto", "agm", "cggm", "mlb", "mslr", "mses", "inforeg", "uncertainty_weighting"]
)
def test_a_modality_that_no_sample_has(method: str) -> None:
    gone = build(method, missing=True)
    gone.loaders["train"].there[:, 0], gone.loaders["train"].there[:, 1] = False, True  # type: ignore[attr-defined]
    assert torch.isfinite(flat(train(gone, 2))).all()


@pytest.mark.parametrize("method", JOINT)
def test_a_batch_of_one(method: str) -> None:
    engine = build(method, size=1)
    engine.strategy.on_epoch_start(engine)
    for batch in engine.loaders["train"].epoch(0)[:3]:  # type: ignore[index]
        engine.logs = {}
        engine.strategy.step(batch, engine)
    assert torch.isfinite(flat(engine)).all()


def test_a_tie_changes_nothing() -> None:
    for method in ("ogm", "weak_boost"):
        logs, grads = run_once(method, *one_hot_logits(audio=1.0, visual=1.0))
        assert all(float(logs[f"coefficient/{m}"]) == 1 for m in TWO)
        assert all(torch.equal(g, torch.ones_like(g)) for g in grads.values())


@pytest.mark.parametrize("method", ["ogm", "ogm_ge", "weak_boost"])
def test_logits_that_are_no_numbers_change_nothing_and_are_counted(method: str) -> None:
    logits, label = one_hot_logits(audio=3.0, visual=1.0)
    logits["audio"][0, 0] = torch.nan
    logs, grads = run_once(method, logits, label)
    assert int(logs["coefficients_not_finite"]) == 2
    assert all(torch.isfinite(g).all() for g in grads.values())
    assert method == "ogm_ge" or all(torch.equal(g, torch.ones_like(g)) for g in grads.values())


@pytest.mark.parametrize("method", METHODS)
def test_one_modality_is_refused_in_a_line(method: str) -> None:
    with pytest.raises(ValueError, match="two or more modalities") as error:
        strategy(method).attach({"audio": nn.Linear(1, 1)})
    assert "\n" not in str(error.value)


@pytest.fixture
def few_objects() -> Iterator[None]:
    """``gc`` leaves out what exists already: with all of torch's objects, each look takes a third of a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("few_objects")
@pytest.mark.parametrize("method", TRAINED)
def test_memory_does_not_grow(method: str) -> None:
    engine = train(build(method))

    def alive() -> int:
        gc.collect()
        return sum(type(x) in (Tensor, nn.Parameter) for x in gc.get_objects())

    batches = engine.loaders["train"].epoch(0)
    counts = []
    for _ in range(3):
        for number in range(6):
            engine.logs = {}
            engine.strategy.step(batches[number % len(batches)], engine)  # type: ignore[index]
        counts.append(alive())
    assert counts[0] > 0 and counts[2] <= counts[1]


@pytest.mark.parametrize("method", TRAINED)
def test_passes_per_step(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = build(method)
    count = {"forward": 0, "backward": 0}

    def counting(what: str, real: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            count[what] += 1
            return real(*args, **kwargs)

        return counted

    engine.strategy.on_epoch_start(engine)
    teachers = [t.encoder for t in engine.strategy._trained.values() if hasattr(t, "encoder")]
    for encoder in (*engine.model.encoders.values(), *teachers):
        encoder.register_forward_hook(counting("forward", lambda *_: None))
    monkeypatch.setattr(Tensor, "backward", counting("backward", Tensor.backward))
    monkeypatch.setattr(torch.autograd, "grad", counting("backward", torch.autograd.grad))
    engine.strategy.step(engine.loaders["train"].epoch(0)[0], engine)  # type: ignore[index]
    assert count == engine.strategy.passes(2)._asdict()


@pytest.mark.parametrize("method", TRAINED)
def test_bf16(method: str) -> None:
    assert torch.isfinite(flat(train(build(method, precision="bf16")))).all()


# ---- what OGM and its relatives promise
@pytest.mark.parametrize("method", ["ogm", "weak_boost"])
def test_a_scaled_update_is_adams_update_scaled(method: str) -> None:
    plain = build("vanilla", optimizer="adam", max_norm=None, **Q64)
    scaled = build(method, optimizer="adam", max_norm=None, options={"target": "update"}, **Q64)
    start = {n: p.detach().clone() for n, p in plain.model.named_parameters()}
    for engine in (plain, scaled):
        engine.logs = {}
        engine.strategy.step(engine.loaders["train"].epoch(0)[0], engine)  # type: ignore[index]
    k = {m: scaled.logs[f"coefficient/{m}"] for m in TWO}
    assert any(float(x) != 1 for x in k.values())
    for (name, p), q in zip(plain.model.named_parameters(), scaled.model.parameters(), strict=True):
        parts = name.split(".")
        factor = k[parts[1]] if parts[0] == "encoders" and p.ndim > 1 else 1.0
        torch.testing.assert_close(q - start[name], factor * (p - start[name]), rtol=1e-9, atol=1e-12)
