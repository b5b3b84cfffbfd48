"""AUG: what its released code and its docstring claim, and its edges."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from ogm.engine import Engine
from ogm.strategies import aug
from tests.helpers.engines import THREE, TWO, build, digest, refusal, strategy, train
from tests.helpers.methods import Q64, close, rows, weights


def behind(engine: Engine, m: str) -> Engine:
    """Let a modality be the weak one in every epoch that is compared."""
    k = engine.strategy.modalities.index(m)

    def start(training: Any) -> None:
        if training.epoch:
            engine.strategy.epoch_scores[:-1] = 10.0
            engine.strategy.epoch_scores[k] = 1.0
        aug.AUG.on_epoch_start(engine.strategy, training)

    engine.strategy.on_epoch_start = start
    return engine


@pytest.mark.parametrize(("modalities", "weak"), [(TWO, "visual"), (TWO, "audio"), (THREE, "visual")])
def test_the_weak_modality_gets_classifiers(modalities: tuple[str, ...], weak: str) -> None:
    engine = behind(build("aug", modalities=modalities, options={"most": 3}), weak)
    counts = []
    for _ in range(4):
        train(engine)
        counts.append(engine.strategy.active.tolist())
    k = modalities.index(weak)
    assert counts == [[n if i == k else 1 for i in range(len(modalities))] for n in (1, 2, 3, 3)]  # 3 at most
    assert engine.curves[f"classifiers/{weak}"] == [1, 2, 3, 3]


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_what_is_not_in_use_does_not_move(variant: str) -> None:
    engine = behind(build("aug", options={"variant": variant, "most": 4}), "visual")
    start = {m: [weights(x) for x in engine.strategy.first_layers(m)] for m in TWO}
    moved = []
    for _ in range(3):
        train(engine)
        layers = {m: engine.strategy.first_layers(m) for m in TWO}
        moved.append(
            {m: [not torch.equal(s, weights(x)) for s, x in zip(start[m], layers[m], strict=True)] for m in TWO}
        )
    added = variant == "paper"  # the released code never trains them
    visual = [[True, *[added and t < epoch for t in range(3)]] for epoch in range(3)]
    assert moved == [{"audio": [True, False, False, False], "visual": v} for v in visual]


def test_modalities_take_turns_and_one_sees_the_other_in_the_second_layer() -> None:
    engine = build("aug", max_norm=None, **Q64)
    plan, batch = engine.strategy, engine.loaders["train"].epoch(0)[0]
    plan.on_epoch_start(engine)
    seen: list[tuple[set[str], Tensor]] = []
    update = engine.update

    def watched() -> None:
        trained = {n for n, p in engine.model.named_parameters() if p.grad is not None}
        seen.append(({n.split(".")[1] for n in trained}, plan.layer2.weight.detach().clone()))
        update()

    engine.update = watched  # type: ignore[method-assign]
    engine.logs = {}
    plan.step(batch, engine)
    assert [names for names, _ in seen] == [{"audio"}, {"visual"}] and not torch.equal(seen[0][1], seen[1][1])


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_the_scores_are_those_of_the_epoch(variant: aug.BoostingVariant) -> None:
    engine = build("aug", missing=True, options={"variant": variant}, **Q64)
    plan = engine.strategy
    plan.active[1] = 2
    plan.on_epoch_start(engine)
    for p in plan.parameters():
        p.requires_grad_(False)  # nothing moves, but for the encoders, and those at a rate of 0
    engine.optimizer.param_groups[0]["lr"] = 0.0
    engine.logs, expected = {}, torch.zeros(3, dtype=torch.float64)
    for batch in engine.loaders["train"].epoch(0)[:2]:
        complete = batch.has_all(TWO)
        for k, m in enumerate(TWO):
            each = aug.classifier_logits(
                engine.model.encoders[m](batch.inputs[m]), plan.first_layers(m)[: k + 1], plan.layer2
            )
            p = sum(each).softmax(1) if variant == "code" else sum(z.softmax(1) for z in each)
            expected[k] += p[complete, batch.label[complete]].sum().detach()
        expected[2] += complete.sum()
        plan.step(batch, engine)
    close(plan.epoch_scores, expected)


def test_a_run_that_goes_on_compares_the_epoch_before() -> None:
    engine = train(build("aug"))
    *scores, count = engine.strategy.epoch_scores.tolist()
    assert count == 60 and all(scores)
    added = aug.modality_to_boost(dict(zip(TWO, scores, strict=True)), 1.0, 0.01, "code")
    resumed = build("aug", seed=5)
    resumed.load_state_dict(engine.state_dict())
    resumed.strategy.on_epoch_start(resumed)
    assert resumed.strategy._number == {m: 2 if m == added else 1 for m in TWO}
    resumed.strategy.on_epoch_start(resumed)  # nothing has been seen since
    assert resumed.strategy._number == {m: 2 if m == added else 1 for m in TWO}


def test_a_resumed_run_with_added_classifiers_is_the_same_run() -> None:
    how = {"options": {"variant": "paper", "most": 3}, **Q64}
    whole = behind(build("aug", **how), "visual")
    train(whole, 2)
    state = copy.deepcopy(whole.state_dict())
    train(whole, 2)
    resumed = behind(build("aug", seed=7, **how), "visual")
    resumed.seed = 0
    resumed.load_state_dict(state)
    train(resumed, 2)
    assert whole.strategy.active.tolist() == [1, 3] and digest(resumed) == digest(whole)


def test_what_the_classifiers_before_know_counts_less() -> None:
    each, label = [rows(3, 4, seed) for seed in range(3)], torch.tensor([0, 3, 1])
    ce = torch.nn.functional.cross_entropy
    for variant in ("code", "paper"):
        plan = strategy("aug", lam=0.3, variant=variant)
        before = each[0] + each[1]
        p = before.softmax(1) if variant == "code" else each[0].softmax(1) + each[1].softmax(1)
        rest = 1 - 0.3 * p[torch.arange(3), label]
        whole = [ce(z, label, reduction="none") for z in (before + each[2], before, each[2])]
        close(plan.boosting(each, label), whole[0] + whole[1] + rest * whole[2])
        close(plan.boosting(each[:1], label), ce(each[0], label, reduction="none"))


def test_who_gets_one() -> None:
    three = {"a": 3.0, "v": 1.0, "t": 2.0}
    assert (
        aug.modality_to_boost(three, 1.0, 0.01, "code") == "v"
        and aug.modality_to_boost(three, 1.0, 0.01, "paper") == "v"
    )
    alike = {"a": 1.0, "v": 1.005, "t": 1.0}
    assert (
        aug.modality_to_boost(alike, 1.0, 0.01, "code") is None
        and aug.modality_to_boost(alike, 1.0, 0.01, "paper") is None
    )
    assert aug.modality_to_boost({"a": 1.0, "v": 0.0}, 1.0, 0.01, "code") == "v"
    assert (
        aug.modality_to_boost({"a": 0.0, "v": 0.0}, 1.0, 0.01, "code") == "a"
    )  # as released code does where it does not fail
    assert aug.modality_to_boost({"a": 0.0, "v": 0.0}, 1.0, 0.01, "paper") is None


@pytest.mark.parametrize(
    ("epochs", "every", "period"),
    [(200, None, 20), (20, None, 2), (19, None, 1), (3, None, 1), (20, 0.025, 1), (20, 0.2, 4), (200, 5, 5), (9, 1, 1)],
)
def test_checks(epochs: int, every: float | None, period: int) -> None:
    assert aug.check_period(epochs, every) == period


def test_the_prediction_is_over_what_a_sample_has() -> None:
    logits = {m: rows(2, 4, seed) for seed, m in enumerate(TWO)}
    present = {"audio": torch.tensor([True, True]), "visual": torch.tensor([True, False])}
    found = aug.merged_prediction(logits, present, 0.25)
    close(found[0], 0.25 * logits["audio"][0] + 0.75 * logits["visual"][0])
    close(found[1], logits["audio"][1])
    three = {**logits, "text": rows(2, 4, 3)}
    close(aug.merged_prediction(three, {m: torch.tensor([True, True]) for m in three}, 0.4), sum(three.values()) / 3)


@pytest.mark.parametrize(
    "options",
    [{"lam": -0.1}, {"merge": 1.5}, {"sigma": 0.0}, {"margin": -1.0}, {"every": 0.0}, {"most": 0}, {"width": 0}],
)
def test_wrong_options_are_named_in_a_line(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}=") as error:
        strategy("aug", **options)
    assert "\n" not in str(error.value)


def test_it_must_know_the_length_of_the_run_and_the_encoders_must_be_apart() -> None:
    engine = build("aug")
    engine.epochs = 0
    with pytest.raises(ValueError, match="length of the run"):
        train(engine)
    assert "trains the encoders separately" in (refusal("aug", "mmtm") or "")
