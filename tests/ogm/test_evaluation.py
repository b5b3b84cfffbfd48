"""``ogm.evaluate``: numbers that can be checked by hand, the same as the suite's own, and mistakes in one line."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ogm
from benchmarks.runner.metrics import predict, probe
from ogm import Output
from ogm.engine import Engine
from tests.helpers.engines import THREE, TWO, Loader, build
from tests.helpers.own_loop import Net, data

AUDIO, VISUAL = torch.tensor([[2.0, 0], [0, 1], [0, 1], [1, 0]]), torch.tensor([[0.0, 1], [0, 3], [2, 0], [3, 0]])
LABEL = torch.tensor([0, 1, 0, 1])


class Table(nn.Module):
    """Returns unimodal logits as they are, and their sum."""

    def forward(self, **logits: Tensor) -> Output:
        return Output(torch.stack(list(logits.values())).sum(0), dict(logits))


def test_numbers_by_hand() -> None:
    batch = {"audio": AUDIO, "visual": VISUAL, "labels": LABEL}
    numbers = ogm.evaluate(Table(), {"test": [batch]})["test"]
    # audio: right, right, wrong, wrong; visual: wrong, right, right, wrong; the sum: right, right, right, wrong
    assert (numbers["accuracy"], numbers["accuracy/audio"], numbers["accuracy/visual"]) == (0.75, 0.5, 0.5)
    for m in TWO:  # half of what it adds to nothing, worth 1/2, and half of what it adds to the other
        assert numbers[f"shapley/{m}"] == pytest.approx((0.5 - 0.5) / 2 + (0.75 - 0.5) / 2)
    true_class = [float(z.softmax(1)[range(4), LABEL].sum()) for z in (AUDIO, VISUAL)]
    assert numbers["discrepancy_ratio/audio"] == pytest.approx(true_class[0] / true_class[1])
    assert numbers["discrepancy_ratio/visual"] == pytest.approx(true_class[1] / true_class[0])
    parts = [{name: x[rows] for name, x in batch.items()} for rows in (slice(0, 3), slice(3, 4))]
    assert ogm.evaluate(Table(), {"test": parts})["test"] == numbers  # however it is cut into batches


def test_three_modalities_share_the_accuracy() -> None:
    g = torch.Generator().manual_seed(0)
    batch = {m: torch.randn(200, 4, generator=g) for m in ("a", "b", "c")} | {"label": torch.arange(200) % 4}
    batch["a"] += 3 * torch.eye(4)[batch["label"]]
    batch["c"] = torch.zeros(200, 4)
    numbers = ogm.evaluate(Table(), {"val": [batch]})["val"]
    shares = [numbers[f"shapley/{m}"] for m in "abc"]
    assert sum(shares) == pytest.approx(numbers["accuracy"] - 1 / 4)
    assert shares[2] == pytest.approx(0) and shares[0] > 0.3 > shares[1]


class Wrapped(nn.Module):
    """A model of the suite as a user's own: inputs by name."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.model = engine.model

    def forward(self, **inputs: Tensor) -> Output:
        output: Output = self.model(inputs)
        return output


def loaders_of(engine: Engine) -> dict[str, list[dict[str, Tensor]]]:
    return {
        split: [batch.inputs | {"labels": batch.label} for batch in engine.loaders[split].all()]
        for split in ("train", "test")
    }


@pytest.mark.parametrize(("method", "fusion", "modalities"), [("mlb", "concat", TWO), ("vanilla", "film", THREE)])
def test_the_suite_has_the_same_numbers(method: str, fusion: str, modalities: tuple[str, ...]) -> None:
    engine = build(method, fusion, modalities)
    engine.loaders["test"] = Loader(modalities, data_seed=2)
    numbers = ogm.evaluate(Wrapped(engine), loaders_of(engine), strategy=engine.strategy)["test"]
    own = predict(engine, "test")
    hits = {m: float(np.mean(z.argmax(1) == own.label)) for m, z in zip(("", *modalities), own.logits, strict=True)}
    assert numbers["accuracy"] == pytest.approx(hits.pop(""))
    assert {m: numbers[f"accuracy/{m}"] for m in modalities} == pytest.approx(hits)
    assert {m: numbers[f"probe/{m}"] for m in modalities} == pytest.approx(probe(engine))
    classes = own.logits.shape[2]
    assert sum(numbers[f"shapley/{m}"] for m in modalities) == pytest.approx(numbers["accuracy"] - 1 / classes)


def with_features() -> Net:
    class WithFeatures(Net):
        def forward(self, audio: Tensor, visual: Tensor) -> Output:
            features = {"audio": self.audio(audio), "visual": self.visual(visual)}
            return Output(
                self.head(torch.cat(list(features.values()), 1)), ogm.split_linear(self.head, features), features
            )

    return WithFeatures()


def test_nothing_about_the_model_changes() -> None:
    net = with_features().train()
    net.audio.eval()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    results = ogm.evaluate(net, {"train": [data(30)], "test": [data(12)], "val": [data(9)]}, strategy=net.plan)
    assert set(results) == {"train", "test", "val"}
    assert (
        "probe/audio" in results["test"] and "probe/visual" in results["val"] and "probe/audio" not in results["train"]
    )
    assert all(type(x) is float for numbers in results.values() for x in numbers.values())
    assert net.training and net.plan.training and net.visual.training and not net.audio.training
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_modules_are_in_training_mode_again_after_a_failure() -> None:
    net = Net().train()
    with pytest.raises(ValueError, match="a batch of 'test' is"):
        ogm.evaluate(net, {"test": [data(3), 5]}, strategy=net.plan)
    assert all(part.training for part in net.modules())


class Returns(nn.Module):
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, *inputs: Tensor) -> Any:
        return self.output


GOOD = {"audio": AUDIO, "visual": VISUAL}
NAN = torch.full((4, 2), torch.nan)
MISTAKES = [
    (Returns(AUDIO), {}, [(AUDIO, LABEL)], "the model returns Tensor, not an ogm.Output: give ogm.Output"),
    (Returns(Output(AUDIO)), {}, [(AUDIO, LABEL)], "needs the unimodal logits of two or more modalities"),
    (Returns(Output(AUDIO, {"audio": AUDIO})), {}, [(AUDIO, LABEL)], "of two or more modalities"),
    (
        Returns(Output(AUDIO[:3], GOOD)),
        {},
        [(AUDIO, LABEL)],
        r"logits on 'test' are \[\(3, 2\), \(4, 2\)\] for 4 labels",
    ),
    (Returns(Output(AUDIO, GOOD)), {}, [(AUDIO, LABEL + 1)], "labels of 'test' are not all from 0 to 1"),
    (Returns(Output(AUDIO, GOOD)), {}, [(AUDIO, LABEL - 200)], "labels of 'test' are not all from 0 to 1"),
    (Returns(Output(AUDIO, GOOD)), {}, [(AUDIO, LABEL.float())], "labels are class numbers"),
    (Returns(Output(AUDIO, GOOD)), {}, [AUDIO], "a batch of 'test' is .* got Tensor"),
    (Returns(Output(AUDIO, GOOD)), {}, [{"audio": AUDIO}], "a dict with 'labels'"),
    (Returns(Output(AUDIO, GOOD)), {}, [], "the loader of 'test' has no batch"),
    (Returns(Output(NAN, GOOD)), {}, [(AUDIO, LABEL)], "the logits on 'test' are not finite"),
    (Returns(Output(AUDIO, GOOD)), {"train": [(AUDIO, LABEL)]}, [(AUDIO, LABEL)], "probes need the features .* leave"),
    (Returns(Output(AUDIO, GOOD | {"x": AUDIO})), {}, [(AUDIO, LABEL)], "attached with fusion="),
    (Table, {}, [], "takes a torch.nn.Module"),
]


@pytest.mark.parametrize(("model", "others", "batches", "message"), MISTAKES, ids=[m for *_, m in MISTAKES])
def test_mistakes_are_named(model: Any, others: dict[str, Any], batches: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        ogm.evaluate(model, {**others, "test": batches})
    assert "\n" not in str(error.value)


def test_without_scikit_learn_it_says_so_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    loaders = {"train": [data(9)], "test": [data(9)]}
    with pytest.raises(
        ValueError, match=r"^evaluate fits its probes with scikit-learn: pip install .*, or leave 'train'"
    ):
        ogm.evaluate(with_features(), loaders)
    assert "accuracy" in ogm.evaluate(with_features(), {"test": [data(9)]})["test"]
