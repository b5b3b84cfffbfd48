"""Mistakes in a user's own loop are named in one line, before anything is differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ogm
from ogm import Batch, Output
from tests.helpers.engines import THREE, TWO, build, refusal
from tests.helpers.own_loop import OWN_LOOP, Net, data, forward, three_batches


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
