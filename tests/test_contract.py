"""What every strategy promises, whatever it does. A new method is in here by being registered."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.strategies.ogm_ge import OGMGE
from ogm.types import Batch, Output
from tests.small import (
    CLASSES_OF,
    FOUR,
    JOINT,
    METHODS,
    SAMPLES,
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

Q64 = {"dtype": torch.float64}


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
@pytest.mark.parametrize("fusion", FOUR)
@pytest.mark.parametrize("method", TRAINED)
def test_trains_with_every_fusion_or_refuses(
    method: str, fusion: str, modalities: tuple[str, ...], missing: bool
) -> None:
    why = refusal(method, fusion, modalities, missing=missing)
    if why is not None:  # a reason that was declared, in one line
        assert "\n" not in why
        declared = CLASSES_OF[method]
        assert declared.needs_additive or declared.needs_concat or declared.most_modalities == 2
        return
    engine = train(build(method, fusion, modalities, missing=missing), 2)
    assert torch.isfinite(flat(engine)).all()
    output, batch = next(iter(engine.predict("val")))
    assert engine.strategy.predict(output).shape == (len(batch), 4)
    assert all(torch.isfinite(z).all() for z in (output.logits, *output.unimodal_logits.values()))


@pytest.mark.parametrize("method", TRAINED)
def test_a_resumed_run_is_the_same_run(method: str, tmp_path: Path) -> None:
    whole = train(build(method), 4)
    half = train(build(method), 2)
    at_two = digest(half)
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed = build(method, seed=7)  # other weights, until they are loaded
    resumed.seed = 0
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    train(resumed, 2)
    assert digest(resumed) == digest(whole) and resumed.curves == whole.curves
    assert digest(whole) != at_two  # the two epochs in between did something


@pytest.mark.parametrize("method", [m for m in TRAINED if not CLASSES_OF[m].needs_whole_batch])
def test_micro_batches_are_the_whole_batch(method: str) -> None:
    whole, parts = build(method, **Q64), build(method, micro_batch=5, **Q64)
    train(whole), train(parts)
    assert (flat(whole) - flat(parts)).abs().max() < 1e-10
    for name, curve in whole.curves.items():
        if name.startswith("loss/"):
            assert parts.curves[name] == pytest.approx(curve, abs=1e-9), name


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_an_ensemble_is_evaluated_not_trained(modalities: tuple[str, ...], missing: bool) -> None:
    engine = build("ume", modalities=modalities, missing=missing)
    for output, batch in engine.predict("val"):
        assert torch.isfinite(output.logits).all() and output.unimodal_logits.keys() == set(modalities)
        alone = batch.has_all(modalities[:1]) & ~torch.stack([batch.has_all([m]) for m in modalities[1:]]).any(0)
        expected = output.unimodal_logits[modalities[0]].softmax(1)[alone]
        torch.testing.assert_close(output.logits.softmax(1)[alone], expected)
    with pytest.raises(ValueError, match="nothing to train"):
        train(engine)


def test_micro_batches_are_refused_where_they_would_not_be() -> None:
    with pytest.raises(ValueError, match="leave micro_batch out"):
        train(build("vanilla", missing=True, micro_batch=5))


@pytest.mark.parametrize("method", WINDOWED)
def test_outside_its_window_a_method_is_vanilla(method: str) -> None:
    closed = train(build(method, options={"start": 5}), 2)
    assert digest(closed) == digest(train(build("vanilla"), 2))
    assert digest(train(build(method))) != digest(train(build("vanilla")))
    edge = build(method, options={"start": 1, "end": 1})  # both ends count
    assert digest(train(edge)) == digest(train(build("vanilla")))
    assert digest(train(edge)) != digest(train(build("vanilla"), 2))


def gradients(method: str, fusion: str = "concat", **options: Any) -> dict[str, Tensor]:
    """name -> gradient of each of the model's parameters, after one step's modulation and before the update."""
    engine = build(method, fusion, options=options)
    engine.update = lambda: None  # type: ignore[method-assign]
    engine.strategy.on_epoch_start(engine)
    engine.strategy.step(engine.loaders["train"].epoch(0)[0], engine)  # type: ignore[index]
    return {n: p.grad.clone() for n, p in engine.model.named_parameters() if p.grad is not None}


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


@pytest.mark.parametrize(("scope", "ndims"), [("weights", {4}), ("conv4d", {4}), ("all", {1, 4})])
def test_scopes(scope: str, ndims: set[int]) -> None:
    before, after = gradients("vanilla"), gradients("ogm", scope=scope)
    changed = {before[n].ndim for n in before if not torch.equal(before[n], after[n])}
    assert changed == ndims


def run_once(
    method: str, logits: dict[str, Tensor], label: Tensor, **options: Any
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """One foreign step on given unimodal logits, on encoders whose gradients are all ones: logs and new gradients."""
    encoders = {m: nn.Conv2d(1, 2, 2) for m in logits}
    plan = strategy(method, **options).attach(encoders)
    weights = {m: e.weight for m, e in encoders.items()}
    fused = torch.stack(list(logits.values())).sum(0) + 0 * sum(
        p.sum() for e in encoders.values() for p in e.parameters()
    )
    ctx = Context()
    for e in encoders.values():
        for p in e.parameters():
            p.grad = torch.ones_like(p)
    plan.on_gradients(Output(fused, logits), Batch({}, label, torch.arange(len(label))), ctx)
    return dict(ctx.logs), {m: w.grad.clone() for m, w in weights.items() if w.grad is not None}


def one_hot_logits(**confidence: float) -> tuple[dict[str, Tensor], Tensor]:
    label = torch.tensor([0, 1, 2, 3])
    eye = torch.eye(4, dtype=torch.float64)
    return {m: c * eye for m, c in confidence.items()}, label


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
    shown = [m for m in TRAINED if m != "mses"]  # here no validation loss rises: tests/test_gradient_methods.py
    made = {method: digest(train(build(method), 2)) for method in shown}  # some begin with what the first taught
    assert len(set(made.values())) == len(made), made


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("fusion", ["concat", "film"])
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
def test_a_tie_changes_nothing() -> None:
    for method in ("ogm", "weak_boost"):
        logs, grads = run_once(method, *one_hot_logits(audio=1.0, visual=1.0))
        assert all(float(logs[f"coefficient/{m}"]) == 1 for m in TWO)
        assert all(torch.equal(g, torch.ones_like(g)) for g in grads.values())


def test_scores_of_zero() -> None:
    label = torch.tensor([0, 1])
    none = torch.tensor([[-900.0, 0.0], [0.0, -900.0]], dtype=torch.float64)  # nothing on the true class
    good = -none
    logs, grads = run_once("ogm", {"audio": none, "visual": good}, label)
    assert float(logs["coefficient/audio"]) == 1 and float(logs["coefficient/visual"]) == 0
    assert not grads["visual"].any()
    logs, _ = run_once("ogm", {"audio": none, "visual": none.clone()}, label)
    assert all(float(logs[f"coefficient/{m}"]) == 1 for m in TWO)


@pytest.mark.parametrize("method", ["ogm", "ogm_ge", "weak_boost"])
def test_logits_that_are_no_numbers_change_nothing_and_are_counted(method: str) -> None:
    logits, label = one_hot_logits(audio=3.0, visual=1.0)
    logits["audio"][0, 0] = torch.nan
    logs, grads = run_once(method, logits, label)
    assert int(logs["coefficients_not_finite"]) == 2
    assert all(torch.isfinite(g).all() for g in grads.values())
    assert method == "ogm_ge" or all(torch.equal(g, torch.ones_like(g)) for g in grads.values())


def test_debug_stops_at_the_first_number_that_is_none() -> None:
    engine = build("ogm", debug=True)
    with torch.no_grad():
        next(engine.model.encoders["audio"].parameters()).fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="step 0"):
        engine.train_epoch()


def test_a_batch_of_one_and_a_tensor_of_one() -> None:
    train(build("ogm_ge", size=1))
    encoders = {m: nn.Linear(1, 1) for m in TWO}
    plan = OGMGE(alpha=0.5).attach(encoders)
    for e in encoders.values():
        e.weight.grad = torch.full((1, 1), 0.25)
    logits, label = one_hot_logits(audio=3.0, visual=1.0)
    plan.on_gradients(Output(logits["audio"], logits), Batch({}, label, torch.arange(4)), Context())
    assert all(torch.isfinite(e.weight.grad).all() for e in encoders.values() if e.weight.grad is not None)
    assert encoders["visual"].weight.grad == pytest.approx(0.25, abs=1e-6)


def test_parameters_without_a_gradient_are_left_alone() -> None:
    engine = build("ogm_ge")
    frozen = engine.model.encoders["audio"].stages[0]
    before = [p.clone() for p in frozen.parameters()]
    engine.freeze(frozen)
    train(engine)
    assert all(torch.equal(a, b) for a, b in zip(before, frozen.parameters(), strict=True))


def test_nothing_in_scope_is_an_error_not_silence() -> None:
    engine = build("ogm")
    engine.freeze(*engine.model.encoders.values())
    with pytest.raises(ValueError, match="found no encoder parameter"):
        engine.train_epoch()


def test_where_no_sample_has_all_modalities_nothing_is_modulated() -> None:
    vanilla, ge = build("vanilla", missing=True), build("ogm_ge", missing=True)
    for engine in (vanilla, ge):
        loader = engine.loaders["train"]
        loader.there[:, 0] = torch.arange(SAMPLES) % 2 == 0  # type: ignore[attr-defined]
        loader.there[:, 1] = torch.arange(SAMPLES) % 2 == 1  # type: ignore[attr-defined]
        train(engine)
    assert digest(vanilla) == digest(ge)
    assert set(ge.curves["coefficient/audio"]) == {1.0}


@pytest.mark.parametrize("method", METHODS)
def test_one_modality_is_refused_in_a_line(method: str) -> None:
    with pytest.raises(ValueError, match="two or more modalities") as error:
        strategy(method).attach({"audio": nn.Linear(1, 1)})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", TRAINED)
def test_memory_does_not_grow(method: str) -> None:
    engine = train(build(method))

    def alive() -> int:
        gc.collect()
        return sum(type(x) in (Tensor, nn.Parameter) for x in gc.get_objects())

    batches = engine.loaders["train"].epoch(0)
    counts = []
    for _ in range(3):
        for number in range(17):
            engine.logs = {}
            engine.strategy.step(batches[number % len(batches)], engine)  # type: ignore[index]
        counts.append(alive())
    assert counts[2] <= counts[1]


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


# ---- what OGM-GE and its relatives promise
def test_the_noise_has_the_spread_of_the_unscaled_gradient() -> None:
    encoders = {m: nn.Linear(200, 200, bias=False) for m in TWO}
    plan = OGMGE(alpha=0.8).attach(encoders)
    raw = {m: 3 * torch.randn(200, 200, generator=torch.Generator().manual_seed(i)) for i, m in enumerate(TWO)}

    def edited(step: int, seed: int = 0) -> dict[str, Tensor]:
        for m, e in encoders.items():
            e.weight.grad = raw[m].clone()
        logits, label = one_hot_logits(audio=3.0, visual=1.0)
        ctx = Context(step=step, seed=seed)
        plan.on_gradients(Output(logits["audio"], logits), Batch({}, label, torch.arange(4)), ctx)
        k = {m: float(ctx.logs[f"coefficient/{m}"]) for m in TWO}
        assert k["audio"] < 1 == k["visual"]
        return {
            m: (e.weight.grad - k[m] * raw[m]) / raw[m].std() for m, e in encoders.items() if e.weight.grad is not None
        }

    noise = edited(0)
    for z in noise.values():
        assert abs(float(z.std()) - 1) < 0.03 and abs(float(z.mean())) < 0.03
    assert not torch.allclose(noise["audio"], noise["visual"], atol=0.1)
    again, later, other = edited(0), edited(1), edited(0, seed=1)
    for m in TWO:
        torch.testing.assert_close(noise[m], again[m])
        assert not torch.allclose(noise[m], later[m], atol=0.1) and not torch.allclose(noise[m], other[m], atol=0.1)


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


def test_weak_boost_only_boosts_the_weak() -> None:
    for confidence in (0.1, 0.5, 1.0, 2.0, 9.0):
        logs, grads = run_once("weak_boost", *one_hot_logits(audio=3.0, visual=confidence))
        k = {m: float(logs[f"coefficient/{m}"]) for m in TWO}
        strong = "audio" if confidence < 3 else "visual"
        assert min(k.values()) >= 1 and max(k.values()) <= 2 and k[strong] == 1
        assert torch.equal(grads[strong], torch.ones_like(grads[strong]))


def test_static_lr_is_a_smaller_learning_rate() -> None:
    slow = build("static_lr", options={"factors": {"audio": 0.25}}, max_norm=None, **Q64)
    plain = build("vanilla", max_norm=None, **Q64)
    audio = list(plain.model.encoders["audio"].parameters())
    rest = [p for p in plain.parameters if all(p is not q for q in audio)]
    plain.optimizer = torch.optim.SGD(
        [{"params": audio, "lr": 0.025}, {"params": rest}], lr=0.1, momentum=0.9, weight_decay=1e-4
    )
    plain.scheduler = None
    train(slow), train(plain)
    for (name, p), q in zip(slow.model.named_parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12, msg=name)
