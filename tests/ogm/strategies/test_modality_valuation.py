"""ModalityValuation: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from ogm.context import Context
from tests.helpers.engines import SAMPLES, THREE, TWO, build, flat, strategy, train
from tests.helpers.methods import Q64


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
@pytest.mark.parametrize("fusion", ["concat", "film"])
def test_values_are_shapley_values_of_what_is_right(fusion: str, modalities: tuple[str, ...], missing: bool) -> None:
    engine = train(build("modality_valuation", fusion, modalities, missing=missing, **Q64))
    values = engine.strategy.value_samples(engine)
    data = engine.loaders["train"].pick(torch.arange(SAMPLES), SAMPLES)
    engine.model.eval()
    features = engine.model.encode(data.inputs)

    def worth(some: tuple[str, ...]) -> Tensor:
        logits = engine.model.fusion(features, data.present, drop=set(modalities) - set(some))
        return len(some) * (logits.argmax(1) == data.label).double() if some else torch.zeros(SAMPLES).double()

    orders = list(itertools.permutations(modalities))
    for i, m in enumerate(modalities):
        gains = [worth(o[: o.index(m) + 1]) - worth(o[: o.index(m)]) for o in orders]
        phi = torch.stack(gains).mean(0)
        torch.testing.assert_close(values[:, i], torch.where(data.has_all([m]), phi, torch.nan), equal_nan=True)


def test_copies_show_one_modality_and_originals_all() -> None:
    plan = strategy("modality_valuation")
    plan.modalities, nan = TWO, torch.nan
    assert plan.epoch_sampling(4, Context()) is None
    plan._values = torch.tensor([[1.0, 1.0], [0.5, 1.5], [-0.5, 0.5], [nan, 0.0]])
    draws = plan.epoch_sampling(4, Context())
    assert draws is not None
    shown = [(i, *row) for i, row in zip(draws.index.tolist(), draws.keep.tolist(), strict=True)]
    audio, visual = (True, False), (False, True)
    assert shown[:4] == [(i, True, True) for i in range(4)]
    assert sorted(shown[4:]) == sorted([(1, *audio), *[(2, *audio)] * 3, (2, *visual), *[(3, *visual)] * 2])


def test_at_the_modality_level_the_lowest_comes_back() -> None:
    plan = strategy("modality_valuation", level="modality", alpha=3.0)
    plan.modalities = THREE
    values = torch.tensor([[1.5, 0.5, 1.0]] * 50 + [[1.5, torch.nan, 1.0]] * 10)
    audio, visual, text = plan.repeated_samples(values, Context())
    assert (len(audio), len(visual), len(text)) == (0, 120, 0)  # floor(3 * 2/3 * 1 * 60)
    assert int(visual.max()) < 50  # what is missing cannot come back
    assert torch.equal(visual, plan.repeated_samples(values, Context())[1])
    assert not torch.equal(visual, plan.repeated_samples(values, Context(epoch=1))[1])
    assert sum(map(len, plan.repeated_samples(torch.ones(5, 3), Context()))) == 0  # a tie
    assert plan.repeated_samples(torch.full((5, 3), torch.nan), Context()) == []
    assert torch.isfinite(
        flat(train(build("modality_valuation", options={"level": "modality"}, missing=True), 3))
    ).all()


def test_nothing_comes_back_before_the_warm_up_is_over() -> None:
    engine = build("modality_valuation", options={"warmup": 2})
    for epoch in range(3):
        engine.epoch = epoch
        engine.strategy.on_epoch_start(engine)
        assert (engine.strategy.epoch_sampling(SAMPLES, engine) is None) == (epoch < 2)
    early, plain_run = build("modality_valuation", options={"warmup": 2}), build("vanilla")
    assert torch.equal(flat(train(early, 2)), flat(train(plain_run, 2)))
