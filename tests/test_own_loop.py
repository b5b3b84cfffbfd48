"""A strategy in somebody else's loop does what it does in the engine, or says in one line why it does not."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ogm
from ogm import Batch, Output, Strategy
from ogm.engine import Engine
from ogm.loop import Gradients
from tests.small import CLASSES, CLASSES_OF, THREE, TRAINED, TWO, build, digest, flat, refusal, strategy

OWN_LOOP = [m for m in TRAINED if not CLASSES_OF[m].needs_engine]
MICRO = [m for m in OWN_LOOP if not CLASSES_OF[m].needs_whole_batch]
EDITS = ["modality_dropout", "opm", "opm_ogm"]


def forward(engine: Engine, batch: Batch, **where: Any) -> Output:
    """What a loop of one's own does before ``backward``, with the parts of a model and no model."""
    plan, fusion = engine.strategy, engine.model.fusion
    features: dict[str, Tensor] = {m: encoder(batch.inputs[m]) for m, encoder in engine.model.encoders.items()}
    features = plan.transform(features, batch, **where)
    return Output(fusion(features), fusion.unimodal_logits(features), features)


def hand_written(engine: Engine, batches: list[Batch], micro_batch: int | None = None) -> Engine:
    plan, optimizer = engine.strategy, engine.optimizer
    assert optimizer is not None
    for number, batch in enumerate(batches):
        where = {"epochs": 4, "fraction": number / len(batches)}
        optimizer.zero_grad()
        size = micro_batch or len(batch)
        for start in range(0, len(batch), size):
            part = batch.select(slice(start, start + size))
            output = forward(engine, part, **where)
            whole = None if micro_batch is None else len(batch)
            plan.backward(output, part, optimizer=optimizer, accumulate_to=whole, **where)
        nn.utils.clip_grad_norm_([p for g in optimizer.param_groups if g.get("clip", True) for p in g["params"]], 5.0)
        optimizer.step()
    return engine


def engines(engine: Engine, batches: list[Batch]) -> Engine:
    for number, batch in enumerate(batches):
        engine.fraction, engine.logs = number / len(batches), {}
        engine.strategy.step(batch, engine)
    return engine


def three_batches(engine: Engine) -> list[Batch]:
    return engine.loaders["train"].epoch(0)[1:]  # type: ignore[index]  # of 16, 16 and 12 samples


# ---- the same as the engine
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
@pytest.mark.parametrize("fusion", ["concat", "film", "gated"])
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
    hooks = ("step", "draws", "on_epoch_start", "on_epoch_end")
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
@pytest.mark.parametrize("micro_batch", [4, 7])  # equal parts; 7, 7 and 2
@pytest.mark.parametrize("method", MICRO)
def test_micro_batches_are_one_large_batch(method: str, micro_batch: int) -> None:
    whole, parts = build(method, dtype=torch.float64), build(method, dtype=torch.float64)
    hand_written(whole, three_batches(whole)), hand_written(parts, three_batches(parts), micro_batch)
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


@pytest.mark.parametrize("method", ["opm", "agm"])
def test_what_needs_the_whole_batch_cannot_accumulate(method: str) -> None:
    engine = build(method)
    part = three_batches(engine)[0].select(slice(0, 6))
    with pytest.raises(ValueError, match=f"^{method} needs the whole batch .*: leave accumulate_to out"):
        engine.strategy.backward(forward(engine, part), part, accumulate_to=16)


def test_missing_modalities_cannot_accumulate() -> None:
    engine = build("ogm", missing=True)
    part = three_batches(engine)[0].select(slice(0, 6))
    with pytest.raises(ValueError, match=r"where modalities are missing .*: leave accumulate_to out"):
        engine.strategy.backward(forward(engine, part), part, accumulate_to=16)


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


@pytest.mark.parametrize("options", [{"target": "update"}, {"alpha": 0.5, "target": "update"}])
def test_a_scaled_update_needs_its_optimizer(options: dict[str, Any]) -> None:
    engine = build("ogm", options=options)
    batch = three_batches(engine)[0]
    with pytest.raises(ValueError, match=r"^ogm scales .*: pass optimizer= to backward"):
        engine.strategy.backward(forward(engine, batch), batch)
    assert all(p.grad is None for p in engine.parameters)
    one = torch.optim.SGD(engine.model.encoders["audio"].parameters(), lr=0.1)
    with pytest.raises(ValueError, match="no parameter of the encoder of 'visual'"):
        engine.strategy.backward(forward(engine, batch), batch, optimizer=one)
    with pytest.raises(ValueError, match="LBFGS moves several times in one step"):
        lbfgs = torch.optim.LBFGS(engine.model.parameters())
        engine.strategy.backward(forward(engine, batch), batch, optimizer=lbfgs)
    with pytest.raises(ValueError, match=r"takes one torch.optim.Optimizer, got list"):
        engine.strategy.backward(forward(engine, batch), batch, optimizer=[one])  # type: ignore[arg-type]


# ---- parameters of a method's own
def test_heads_that_nobody_trains_are_refused() -> None:
    engine = build("equal_weight_multiloss")
    batch, plan = three_batches(engine)[0], engine.strategy
    optimizer = torch.optim.SGD(engine.model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"the optimizer does not train them: .*strategy\.param_groups"):
        plan.backward(forward(engine, batch), batch, optimizer=optimizer)
    plan.backward(forward(engine, batch), batch)
    optimizer.step(), optimizer.zero_grad()
    with pytest.raises(ValueError, match=r"the optimizer does not train them: .*strategy\.param_groups"):
        plan.backward(forward(engine, batch), batch)


# ---- a linear head
def test_a_linear_head_splits_as_the_fusion_does() -> None:
    fusion = build("vanilla", modalities=THREE).model.fusion
    with torch.no_grad():
        fusion.head.bias.normal_()
    features = {m: torch.randn(5, d) for m, d in fusion.dims.items()}
    own = ogm.split_linear(fusion.head, features)
    expected = fusion.unimodal_logits(features)
    assert all(torch.equal(own[m], expected[m]) for m in THREE)
    torch.testing.assert_close(torch.stack(list(own.values())).sum(0), fusion(features))
    bare = nn.Linear(fusion.head.in_features, 4, bias=False)
    own = ogm.split_linear(bare, features)
    torch.testing.assert_close(torch.stack(list(own.values())).sum(0), bare(torch.cat(list(features.values()), 1)))


def test_what_does_not_split_is_refused_in_a_line() -> None:
    features = {m: torch.randn(5, 3) for m in TWO}
    with pytest.raises(ValueError, match="the head reads 7 numbers, the features have 6"):
        ogm.split_linear(nn.Linear(7, 4), features)
    with pytest.raises(ValueError, match=r"splits one torch.nn.Linear over all features, got Sequential"):
        ogm.split_linear(nn.Sequential(nn.Linear(6, 4)), features)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["opm", "cml", "mmcosine", "mlb", "cggm", "agm"])
def test_a_plain_linear_head_serves_as_fusion(method: str) -> None:
    ours, theirs = build(method), build(method)
    fusion = theirs.model.fusion
    theirs.strategy.attach(theirs.model.encoders, dims=fusion.dims, num_classes=CLASSES, fusion=fusion.head)
    theirs.strategy.load_state_dict(ours.strategy.state_dict())
    groups = [{"params": list(theirs.model.parameters())}, *(g for g in theirs.strategy.param_groups() if g["params"])]
    theirs.optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=1e-4)
    theirs.parameters = [p for g in groups for p in g["params"]]
    engines(ours, three_batches(ours)), hand_written(theirs, three_batches(theirs))
    assert digest(ours) == digest(theirs)


# ---- mistakes, before anything is differentiated
class Net(nn.Module):
    """A network as people have it."""

    def __init__(self) -> None:
        super().__init__()
        self.audio, self.visual = nn.Linear(3, 4), nn.Linear(5, 4)
        self.head = nn.Linear(8, 3)
        self.plan = ogm.create("ogm_ge", alpha=0.8).attach(self.encoders)

    @property
    def encoders(self) -> dict[str, nn.Module]:
        return {"audio": self.audio, "visual": self.visual}

    def forward(self, audio: Tensor, visual: Tensor) -> Output:
        features = {"audio": self.audio(audio), "visual": self.visual(visual)}
        return Output(self.head(torch.cat(list(features.values()), 1)), ogm.split_linear(self.head, features))


def data(samples: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    audio, visual = torch.randn(samples, 3, generator=g), torch.randn(samples, 5, generator=g)
    return audio, visual, torch.arange(samples) % 3


WRONG: dict[str, tuple[Callable[[Output, Tensor], tuple[Any, Any]], str]] = {
    "no output": (lambda o, y: (o.logits, y), r"takes an ogm\.Output\(logits, \.\.\.\), got Tensor"),
    "no unimodal logits": (lambda o, y: (Output(o.logits), y), r"needs the unimodal_logits .*ogm\.split_linear"),
    "one is missing": (
        lambda o, y: (Output(o.logits, {"audio": o.logits}), y),
        "unimodal_logits of every modality, 'visual' is missing",
    ),
    "misspelt modality": (
        lambda o, y: (Output(o.logits, {"audio": o.logits, "visul": o.logits}), y),
        "'visul', which is no modality; did you mean 'visual'",
    ),
    "unimodal shape": (
        lambda o, y: (Output(o.logits, dict.fromkeys(TWO, o.logits[:, :2])), y),
        r"unimodal_logits\['audio'\] is \(6, 2\), the logits \(6, 3\)",
    ),
    "feature shape": (
        lambda o, y: (Output(o.logits, o.unimodal_logits, {"audio": o.logits[None]}), y),
        r"features\['audio'\] is \(1, 6, 3\), expected \(6, D\)",
    ),
    "logits as a list": (lambda o, y: (Output(o.logits.tolist()), y), "got list"),
    "flat logits": (lambda o, y: (Output(o.logits.flatten()), y), "logits are .* got"),
    "other batch": (lambda o, y: (o, y[:4]), "for 4 labels, got"),
    "label too large": (lambda o, y: (o, y + 1), "there is a label 3, and 3 logits: 0 to 2"),
    "label ignored": (lambda o, y: (o, y - 100), "there is a label -100"),
    "soft labels": (lambda o, y: (o, torch.ones(6, 3) / 3), "labels are class numbers"),
    "label type": (lambda o, y: (o, y.int()), r"got \(6,\) of torch\.int32"),
    "label list": (lambda o, y: (o, y.tolist()), "labels are class numbers, .* got list"),
    "no samples": (lambda o, y: (Output(o.logits[:0]), y[:0]), "the batch is empty"),
    "no graph": (lambda o, y: (o.detach(), y), "made without a gradient"),
    "other device": (lambda o, y: (Output(o.logits.to("meta"), {}), y), "labels are on cpu, logits on meta"),
    "index": (lambda o, y: (o, Batch({}, y, torch.arange(3))), r"index is \(3,\), its label \(6,\)"),
    "mask": (lambda o, y: (o, Batch({}, y, y, {"sound": y > 0})), "present of 'sound', which is no modality"),
    "inputs": (lambda o, y: (o, Batch({"audio": y[:2]}, y, y)), r"inputs\['audio'\] has 2 samples, there are 6"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_named_before_anything_is_differentiated(mistake: str) -> None:
    change, message = WRONG[mistake]
    net, (audio, visual, label) = Net(), data()
    with pytest.raises(ValueError, match=f"ogm_ge.*{message}") as error:
        net.plan.backward(*change(net(audio, visual), label))
    assert "\n" not in str(error.value)
    assert all(p.grad is None for p in net.parameters())
    net.plan.backward(net(audio, visual), label)  # and nothing of it stays


@pytest.mark.parametrize("given", ["logits", "unimodal", "features"])
@pytest.mark.parametrize(("fusion", "modalities"), [("concat", TWO), ("film", THREE)])
@pytest.mark.parametrize("method", OWN_LOOP)
def test_what_is_missing_is_named_before_anything_is_differentiated(
    method: str, fusion: str, modalities: tuple[str, ...], given: str
) -> None:
    if refusal(method, fusion, modalities) is not None:
        return
    engine = build(method, fusion, modalities)
    batch = three_batches(engine)[0]
    output = forward(engine, batch, epochs=4)
    some = Output(
        output.logits,
        output.unimodal_logits if given == "unimodal" else {},
        output.features if given == "features" else {},
    )
    try:
        engine.strategy.backward(some, batch.label, epochs=4)
    except ValueError as error:
        words = str(error)
        assert words.startswith(method) and "\n" not in words and ("needs the" in words or "pass optimizer=" in words)
        assert all(p.grad is None for p in engine.parameters)
    else:
        assert any(p.grad is not None for p in engine.parameters)


def test_backward_without_gradients_and_before_attach() -> None:
    net, (audio, visual, label) = Net(), data()
    with torch.no_grad(), pytest.raises(ValueError, match="made without a gradient"):
        net.plan.backward(net(audio, visual), label)
    for call in (ogm.create("ogm_ge").backward, ogm.create("opm").transform):
        with pytest.raises(ValueError, match=r"^(ogm_ge|opm) does not know the encoders yet: call attach first"):
            call(net(audio, visual), label)  # type: ignore[operator]


def test_three_modalities_in_a_fusion_that_does_not_split_need_features() -> None:
    engine = build("ogm", "film", THREE)
    batch = three_batches(engine)[0]
    output = forward(engine, batch)
    with pytest.raises(ValueError, match="ogm needs the features of every modality"):
        engine.strategy.backward(Output(output.logits, output.unimodal_logits), batch)


@pytest.mark.parametrize(
    ("encoders", "fusion", "message"),
    [
        ([nn.Linear(1, 1)] * 2, None, r"attach takes \{modality: encoder\}, got list"),
        ({"audio": nn.Linear(1, 1), "visual": 3}, None, "the encoder of 'visual' is no torch.nn.Module but int"),
        (Net().encoders, nn.Linear(8, 3), "pass fusion= to attach, and with a torch.nn.Linear .* dims="),
        ((net := Net()).encoders, net, r"has the encoder of 'audio' in it: .* such as net\.head"),
    ],
)
def test_what_attach_refuses(encoders: Any, fusion: nn.Module | None, message: str) -> None:
    with pytest.raises(ValueError, match=f"^opm.*{message}") as error:
        ogm.create("opm").attach(encoders, fusion=fusion)
    assert "\n" not in str(error.value)


def test_micro_batches_are_counted_in_samples() -> None:
    net, (audio, visual, label) = Net(), data()
    for number in (True, 12.5, "12"):
        with pytest.raises(ValueError, match="how many samples the whole batch has"):
            net.plan.backward(net(audio, visual), label, accumulate_to=number)  # type: ignore[arg-type]


def test_misspelt_options_get_the_suggestion_of_the_command_line() -> None:
    with pytest.raises(ValueError, match=r"^ogm_ge: there is no option 'alhpa'; did you mean 'alpha'\?$"):
        ogm.create("ogm_ge", alhpa=0.8)
    with pytest.raises(ValueError, match="there is no target='updat'; did you mean 'update'"):
        ogm.create("ogm", target="updat")
    with pytest.raises(ValueError, match=r"ogm: alpha='0\.8' is no float"):
        ogm.create("ogm", alpha="0.8")
    with pytest.raises(ValueError, match="ogm: end=True is no int"):
        ogm.create("ogm", alpha=1, end=True)
    with pytest.raises(ValueError, match=r"static_lr: there is no option 'x'; .*; the option 'factors' is missing"):
        ogm.create("static_lr", x=1)
    with pytest.raises(ValueError, match="vanilla: there is no option 'x'; there are none"):
        ogm.create("vanilla", x=1)


# ---- precision, copies, wrappers
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


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


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
