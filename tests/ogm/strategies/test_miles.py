"""MILES: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch

from ogm.strategies.miles import slow_down, validation_accuracies
from tests.helpers.engines import THREE, TWO, build, strategy, train
from tests.helpers.methods import D, build64, close

NAN = float("nan")


def factors(fused: float, *branches: float, tau: float = 0.1) -> list[float]:
    return slow_down(torch.tensor(fused, dtype=D), torch.tensor(branches, dtype=D), tau, 0.5).factor.tolist()


def test_a_modality_without_a_metric_takes_no_part() -> None:
    assert factors(0.5, 0.5, NAN) == [1.0, 1.0]
    assert factors(0.5, 0.5, 0.1, NAN) == [*factors(0.5, 0.5, 0.1), 1.0] == [0.5, 1.0, 1.0]
    assert factors(0.5, NAN, NAN, NAN) == [1.0, 1.0, 1.0]
    assert factors(NAN, 0.5, 0.1) == [1.0, 1.0]


def test_a_difference_of_exactly_tau_is_tolerated() -> None:
    assert factors(0.5, 0.5, 0.25, tau=0.5) == [1.0, 1.0]
    assert factors(0.5, 0.5, 0.25, tau=0.499) == [0.5, 1.0]


def test_a_slow_epoch_is_a_learning_rate_of_its_own() -> None:
    slow, plain = (build64("miles", options={"tau": 9.0, "mu": 0.25}) for _ in range(2))
    slow.strategy.factor.copy_(torch.tensor([0.25, 1.0]))
    own = [*plain.model.encoders["audio"].parameters(), *plain.strategy.heads["audio"].parameters()]
    rest = [p for p in plain.parameters if all(p is not q for q in own)]
    groups = [{"params": own, "lr": 0.025}, {"params": rest}]
    plain.optimizer, plain.scheduler = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=1e-4), None
    train(slow), train(plain)
    for p, q in zip(slow.parameters, plain.parameters, strict=True):
        close(p.detach(), q.detach())


def test_a_decision_holds_for_one_epoch() -> None:
    engine = train(build("miles", options={"tau": 0.0}), 2)
    assert engine.curves["coefficient/audio"][0] == 1.0
    decided = engine.strategy.factor.clone()
    assert decided.min() == 0.5 and decided.max() == 1.0
    train(engine)
    assert [engine.curves[f"coefficient/{m}"][2] for m in TWO] == decided.tolist()
    engine.strategy.tau = 99.0
    train(engine)
    assert engine.strategy.factor.tolist() == [1.0, 1.0]


def test_with_mu_of_one_it_is_the_three_losses_alone() -> None:
    ours, plain = build64("miles", options={"tau": 0.0, "mu": 1.0}), build64("equal_weight_multiloss")
    for p, q in zip(train(ours, 2).parameters, train(plain, 2).parameters, strict=True):
        close(p.detach(), q.detach())


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_accuracies_are_of_the_samples_that_have_the_modality(missing: bool) -> None:
    engine = train(build64("miles", modalities=THREE, missing=missing))
    pairs = list(engine.predict("val"))
    label = torch.cat([b.label for _, b in pairs])
    expected = [(torch.cat([o.logits for o, _ in pairs]).argmax(1) == label).double().mean()]
    for m in THREE:
        right = torch.cat([o.unimodal_logits[m].argmax(1) for o, _ in pairs]) == label
        expected.append(right[torch.cat([b.has_all([m]) for _, b in pairs])].double().mean())
    close(validation_accuracies(engine), torch.stack(expected))


def test_a_modality_that_no_sample_has_trains_on() -> None:
    gone = build("miles", missing=True)
    for loader in gone.loaders.values():
        loader.there[:, 0], loader.there[:, 1] = False, True  # type: ignore[attr-defined]
    assert train(gone, 2).strategy.factor.tolist() == [1.0, 1.0]
    assert validation_accuracies(gone)[1].isnan()


@pytest.mark.parametrize("options", [{"tau": -0.1}, {"mu": 1.5}, {"mu": float("nan")}])
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"choose tau >= 0 and mu in \[0, 1\]"):
        strategy("miles", **options)
