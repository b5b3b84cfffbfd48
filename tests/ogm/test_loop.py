"""A strategy in a user's own loop computes what it computes in the engine."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ogm
from ogm import Batch, Output, Strategy
from ogm.engine import Engine
from ogm.loop import Gradients
from tests.helpers.engines import CLASSES, CLASSES_OF, THREE, TWO, build, digest, flat, refusal, strategy
from tests.helpers.methods import build64, close
from tests.helpers.own_loop import OWN_LOOP, Net, data, engines, forward, hand_written, same, three_batches

MICRO = [m for m in OWN_LOOP if not CLASSES_OF[m].needs_whole_batch]


EDITS = ["modality_dropout", "opm", "opm_ogm"]


# ---- the same as the engine
@pytest.mark.parametrize(
    ("fusion", "modalities"),
    [
        ("concat", TWO),
        ("film", THREE),
        pytest.param("concat", THREE, marks=pytest.mark.long),
        pytest.param("film", TWO, marks=pytest.mark.long),
        ("gated", TWO),
        pytest.param("gated", THREE, marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("method", OWN_LOOP)
def test_a_hand_written_loop_has_the_bits_of_the_engine(method: str, fusion: str, modalities: tuple[str, ...]) -> None:
    if refusal(method, fusion, modalities) is not None:
        return
    ours, theirs = build(method, fusion, modalities), build(method, fusion, modalities)
    engines(ours, three_batches(ours)), hand_written(theirs, three_batches(theirs))
    assert digest(ours) == digest(theirs)
    for name, x in ours.strategy.state_dict().items():
        assert name == "_extra_state" or torch.equal(x, theirs.strategy.state_dict()[name]), name
    for name, number in theirs.strategy.logs.items():
        assert number == pytest.approx(float(ours.logs[name]), nan_ok=True), name


@pytest.mark.parametrize("method", OWN_LOOP)
def test_with_adam_too(method: str) -> None:
    how: dict[str, Any] = {"optimizer": "adam"}
    if method in ("ogm", "ogm_ge", "opm_ogm"):
        how["options"] = {"target": "update"}
    ours, theirs = build(method, **how), build(method, **how)
    engines(ours, three_batches(ours)), hand_written(theirs, three_batches(theirs))
    assert digest(ours) == digest(theirs)


def test_what_acts_outside_a_backward_pass_says_so() -> None:
    hooks = ("step", "epoch_sampling", "on_epoch_start", "on_epoch_end")
    for method in CLASSES_OF:
        plan = strategy(method)
        acts = any(getattr(type(plan), hook) is not getattr(Strategy, hook) for hook in hooks)
        learns = method != "lfm" or plan.learns  # whose hooks do nothing otherwise
        assert plan.needs_engine or not (acts and learns), method
        if plan.needs_engine:
            engine = build(method)
            logits = torch.zeros(2, CLASSES, requires_grad=True)
            with pytest.raises(ValueError, match=f"^{method} does more than .* train with an Engine$"):
                engine.strategy.backward(Output(logits), torch.tensor([0, 1]))


# ---- features that are edited
@pytest.mark.parametrize("method", EDITS)
def test_features_that_were_not_edited_are_refused_before_anything_is_differentiated(method: str) -> None:
    engine = build(method)
    batch, optimizer = three_batches(engine)[0], engine.optimizer
    with pytest.raises(ValueError, match=rf"^{method} edits .*: call features = strategy\.transform") as error:
        engine.strategy.backward(engine.model(batch.inputs), batch, optimizer=optimizer)
    assert "\n" not in str(error.value)
    assert all(p.grad is None for p in engine.parameters)
    output = forward(engine, batch)
    engine.strategy.backward(output, batch, optimizer=optimizer)
    assert optimizer is not None
    optimizer.zero_grad()
    with pytest.raises(ValueError, match="edits features"):  # one call is good for one step
        engine.strategy.backward(engine.model(batch.inputs), batch, optimizer=optimizer)


def test_transform_and_backward_must_be_told_the_same() -> None:
    engine = build("modality_dropout")
    batch = three_batches(engine)[0]
    output = forward(engine, batch, epoch=3)
    with pytest.raises(ValueError, match=r"transform was told .* give both the same"):
        engine.strategy.backward(output, batch)
    features = {m: encoder(batch.inputs[m]) for m, encoder in engine.model.encoders.items()}
    engine.strategy.transform(features, batch)
    with pytest.raises(ValueError, match="the features that transform was given, not its result"):
        engine.strategy.backward(Output(output.logits, {}, features), batch)
    with pytest.raises(ValueError, match="needs the features of every modality, 'visual' is missing"):
        engine.strategy.transform({"audio": features["audio"]}, batch)


def test_nothing_is_edited_in_evaluation_mode_nor_by_methods_that_do_not() -> None:
    for plan in (build("modality_dropout").strategy.eval(), build("ogm").strategy):
        features = {m: torch.randn(5, 8) for m in TWO}
        edited = plan.transform(features, torch.zeros(5, dtype=torch.int64))
        assert all(edited[m] is features[m] for m in TWO)


# ---- gradient accumulation
@pytest.mark.parametrize("method", MICRO)
def test_micro_batches_are_one_large_batch(method: str) -> None:
    whole, parts = build(method, dtype=torch.float64), build(method, dtype=torch.float64)
    batches = three_batches(whole)  # of 16, 16 and 12 samples: 7, 7 and 2, and 7 and 5 in the last
    hand_written(whole, batches), hand_written(parts, batches, 7)
    assert (flat(whole) - flat(parts)).abs().max() < 1e-10
    assert parts.strategy.state_dict()["_extra_state"] == 3


def test_labels_without_sample_numbers_accumulate_alike() -> None:
    made = []
    for size in (16, 5):
        engine = build("modality_dropout", dtype=torch.float64)
        batch, plan = three_batches(engine)[0], engine.strategy
        for start in range(0, 16, size):
            rows = slice(start, start + size)
            features = {m: encoder(batch.inputs[m][rows]) for m, encoder in engine.model.encoders.items()}
            features = plan.transform(features, batch.label[rows])
            plan.backward(Output(engine.model.fusion(features)), batch.label[rows], accumulate_to=16)
        made.append(torch.cat([p.grad.flatten() for p in engine.model.parameters() if p.grad is not None]))
    torch.testing.assert_close(*made, rtol=0, atol=1e-10)


def test_losses_of_micro_batches_add_up() -> None:
    engine = build("equal_weight_multiloss", dtype=torch.float64)
    batch, plan = three_batches(engine)[0], engine.strategy
    whole = plan.backward(forward(engine, batch), batch)
    assert engine.optimizer is not None
    engine.optimizer.zero_grad()
    parts = [batch.select(rows) for rows in (slice(0, 10), slice(10, 16))]
    losses = [plan.backward(forward(engine, part), part, accumulate_to=16) for part in parts]
    torch.testing.assert_close(torch.stack(losses).sum(), whole)


def test_accumulation_that_is_not_declared_is_refused() -> None:
    engine = build("ogm")
    batch, plan, optimizer = three_batches(engine)[0], engine.strategy, engine.optimizer
    assert optimizer is not None
    plan.backward(forward(engine, batch), batch)
    with pytest.raises(ValueError, match=r"already modulated: call optimizer.zero_grad.* pass accumulate_to="):
        plan.backward(forward(engine, batch), batch)
    for set_to_none in (True, False):
        optimizer.zero_grad(set_to_none=set_to_none)
        plan.backward(forward(engine, batch), batch)
    optimizer.zero_grad()
    forward(engine, batch).logits.square().mean().backward()  # a loss of one's own beside it is nobody's mistake
    plan.backward(forward(engine, batch), batch)


def test_micro_batches_that_do_not_make_a_batch_are_refused() -> None:
    engine = build("mmpareto")
    batch, plan, optimizer = three_batches(engine)[0], engine.strategy, engine.optimizer
    assert optimizer is not None
    part = batch.select(slice(0, 6))

    def backward(accumulate_to: int | None) -> None:
        plan.backward(forward(engine, part), part, accumulate_to=accumulate_to, optimizer=optimizer)

    with pytest.raises(ValueError, match="0 and 6 samples are more than accumulate_to=5"):
        backward(5)
    backward(16)
    with pytest.raises(ValueError, match="accumulate_to=None, but the micro-batches before had 16"):
        backward(None)
    backward(16)
    with pytest.raises(ValueError, match="12 and 6 samples are more than accumulate_to=16"):
        backward(16)
    optimizer.step(), optimizer.zero_grad()  # an epoch that ended with 12 of 16
    with pytest.raises(ValueError, match="12 of accumulate_to=16 samples had come, and their gradients are gone"):
        backward(16)
    backward(6)  # and from there on as if nothing had been: no gradient of the lost ones is left anywhere
    fresh = build("mmpareto")
    fresh.model.load_state_dict(engine.model.state_dict()), fresh.strategy.load_state_dict(plan.state_dict())
    fresh.strategy.backward(forward(fresh, part), part, optimizer=fresh.optimizer)
    for p, q in zip(engine.parameters, fresh.parameters, strict=True):
        assert p.grad is not None and q.grad is not None and torch.equal(p.grad, q.grad)


# ---- scaled updates
def updating(name: str = "vanilla", seed: int = 0) -> tuple[Engine, Strategy, torch.optim.Optimizer]:
    engine = build(name, seed=seed)
    plan = ogm.create("ogm", alpha=0.8, target="update").attach(engine.model.encoders)
    return engine, plan, torch.optim.Adam(engine.model.parameters(), lr=0.01)


def one_step(engine: Engine, plan: Strategy, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    optimizer.zero_grad()
    plan.backward(engine.model(batch.inputs), batch.label, optimizer=optimizer)
    optimizer.step()


def test_a_step_that_the_scaler_skips_leaves_nothing_behind() -> None:
    engine, plan, optimizer = updating()
    first, second, _ = three_batches(engine)
    scaler = torch.amp.GradScaler("cpu", init_scale=float("inf"))  # overflows at once
    before = flat(engine)
    plan.backward(engine.model(first.inputs), first.label, optimizer=optimizer, scaler=scaler)
    scaler.step(optimizer), scaler.update()
    assert torch.equal(before, flat(engine))
    one_step(engine, plan, optimizer, second)
    fresh, other, its = updating()
    one_step(fresh, other, its, second)
    assert digest(engine) == digest(fresh)


def test_two_backward_passes_before_a_step_are_one_step() -> None:
    engine, plan, optimizer = updating()
    first, second, _ = three_batches(engine)
    plan.backward(engine.model(first.inputs), first.label, optimizer=optimizer)
    one_step(engine, plan, optimizer, second)  # forgets the first's gradients
    one_step(engine, plan, optimizer, first)
    fresh, other, its = updating()
    one_step(fresh, other, its, second), one_step(fresh, other, its, first)
    assert digest(engine) == digest(fresh)
    assert len(optimizer._optimizer_step_post_hooks) == 1


# ---- precision, copies, wrappers
@pytest.mark.parametrize("method", ["ogm", "mmpareto", "agm", "cggm", "mlb"])
def test_a_grad_scaler_changes_nothing_but_the_scale(method: str) -> None:
    results = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        engine = build64(method)
        optimizer = torch.optim.SGD(engine.parameters, lr=0.1)
        batch = engine.loaders["train"].epoch(0)[0]
        engine.strategy.backward(engine.model(batch.inputs), batch, optimizer=optimizer, scaler=scaler)
        scaler.step(optimizer) if scaler else optimizer.step()
        results.append([p.detach().clone() for p in engine.parameters])
    for one, other in zip(*results, strict=True):
        close(one, other)


@pytest.mark.parametrize("method", ["ogm_ge", "equal_weight_multiloss", "mmpareto", "cml", "cggm", "agm", "lfm"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_forward_pass_in_half_precision(method: str, dtype: torch.dtype) -> None:
    whole, half = build(method), build(method)
    batch = three_batches(whole)[0]
    loss = whole.strategy.backward(forward(whole, batch, epochs=4), batch, optimizer=whole.optimizer, epochs=4)
    with torch.autocast("cpu", dtype):
        output = forward(half, batch, epochs=4)
    assert output.logits.dtype == dtype
    found = half.strategy.backward(output, batch, optimizer=half.optimizer, epochs=4)
    assert found.dtype == torch.float32 and float(found) == pytest.approx(float(loss), rel=0.02)
    assert all(torch.isfinite(p.grad).all() for p in half.parameters if p.grad is not None)


@pytest.mark.parametrize("method", ["ogm_ge", "equal_weight_multiloss"])
def test_a_model_in_half_precision(method: str) -> None:
    engine = build(method, dtype=torch.bfloat16)
    hand_written(engine, three_batches(engine))
    assert torch.isfinite(flat(engine)).all()


def trained(net: Net, plan: Strategy, steps: int) -> Net:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    audio, visual, label = data()
    for _ in range(steps):
        optimizer.zero_grad()
        plan.backward(net(audio, visual), label)
        optimizer.step()
    return net


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_a_copy_of_a_network_with_its_strategy_goes_on_alike(how: str) -> None:
    torch.manual_seed(0)
    net = Net()
    net.plan.backward(net(*data()[:2]), data()[2])  # in the middle of a step
    if how == "deepcopy":
        other = copy.deepcopy(net)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(net))  # noqa: S301
    else:
        buffer = io.BytesIO()
        torch.save(net, buffer)
        buffer.seek(0)
        other = torch.load(buffer, weights_only=False)
    assert other.plan._encoders["audio"] is other.audio
    trained(net, net.plan, 3), trained(other, other.plan, 3)
    assert same(net, other)


def test_a_copied_strategy_without_its_network_is_refused() -> None:
    net = Net()
    audio, visual, label = data()
    with pytest.raises(ValueError, match=r"are the modules given to attach .* the ones that are trained"):
        copy.deepcopy(net.plan).backward(net(audio, visual), label)


def test_checkpoints_of_networks_without_a_strategy_load_strictly() -> None:
    net = Net()
    plain = {name: x for name, x in net.state_dict().items() if not name.startswith("plan.")}
    Net().load_state_dict(plain, strict=True)
    trained(net, net.plan, 2)
    whole = net.state_dict()
    assert all(isinstance(x, Tensor) for x in whole.values())  # as safetensors and averaging of weights expect
    other = Net()
    other.load_state_dict(whole, strict=True)
    assert other.plan.state_dict()["_extra_state"] == 2
    other.load_state_dict({**whole, "plan._extra_state": 7}, strict=True)  # of earlier versions: a number
    assert other.plan.state_dict()["_extra_state"] == 7


def test_logs_are_numbers() -> None:
    net = Net()
    net.plan.backward(net(*data()[:2]), data()[2])
    assert net.plan.logs and all(type(x) is float for x in net.plan.logs.values())


def test_a_wrapped_optimizer_is_found() -> None:
    class Wrapped(torch.optim.Optimizer):
        """As Accelerate's: an Optimizer that never was initialised as one."""

        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer = optimizer

    engine, plan, optimizer = updating()
    fresh, other, its = updating()
    batch = three_batches(engine)[0]
    plan.backward(engine.model(batch.inputs), batch.label, optimizer=Wrapped(optimizer))
    optimizer.step()
    one_step(fresh, other, its, batch)
    assert digest(engine) == digest(fresh)


def test_compiled_and_wrapped_encoders_are_known_by_their_parameters() -> None:
    torch.manual_seed(0)
    net = Net()
    other = copy.deepcopy(net)
    compiled = torch.compile(other, backend="eager")
    other.plan.attach({"audio": torch.compile(other.audio, backend="eager"), "visual": other.visual})
    audio, visual, label = data()
    for one, run in ((net, net), (other, compiled)):
        one.plan.backward(run(audio, visual), label)
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert p.grad is not None and q.grad is not None
        torch.testing.assert_close(p.grad, q.grad)


def test_a_frozen_encoder_is_left_alone_and_all_frozen_is_refused() -> None:
    net, (audio, visual, label) = Net(), data()
    net.audio.requires_grad_(False)
    trained(net, net.plan, 2)
    assert all(p.grad is None for p in net.audio.parameters())
    net.visual.requires_grad_(False)
    net.zero_grad()
    with pytest.raises(ValueError, match="ogm_ge found no encoder parameter with a gradient"):
        net.plan.backward(net(audio, visual), label)


def test_param_groups_and_closures() -> None:
    torch.manual_seed(0)
    one = Net()
    many, closed, searched = copy.deepcopy(one), copy.deepcopy(one), copy.deepcopy(one)
    trained(one, one.plan, 3)
    groups = [{"params": many.audio.parameters(), "lr": 0.1}, {"params": [*many.visual.parameters()], "lr": 0.1}]
    by_groups = torch.optim.SGD([*groups, {"params": many.head.parameters(), "lr": 0.1}], lr=1.0)
    for net, optimizer in (
        (many, by_groups),
        (closed, torch.optim.SGD(closed.parameters(), lr=0.1)),
        (searched, torch.optim.LBFGS(searched.parameters(), max_iter=3)),
    ):
        audio, visual, label = data()

        def closure(net: Net = net, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            return net.plan.backward(net(audio, visual), label, optimizer=optimizer)  # noqa: B023

        for _ in range(3):
            optimizer.step(closure)  # type: ignore[arg-type]
    assert same(one, many) and same(one, closed)
    assert all(torch.isfinite(p).all() for p in searched.parameters())


def test_gradients_are_recognised_without_being_kept() -> None:
    layer = nn.Linear(2, 2)
    assert not Gradients(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    seen = Gradients(layer.parameters())
    assert seen and seen.unchanged(layer.parameters())
    layer.zero_grad()
    assert not seen.unchanged(layer.parameters()) and all(ref() is None for ref, _ in seen.versions)
