"""BSS: what its released code and its docstring claim, and its edges."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from ogm.strategies import bss
from ogm.types import EpochSampling
from tests.helpers.engines import SAMPLES, THREE, TWO, build, digest, strategy, train
from tests.helpers.methods import Q64, close, rows


def shown(engine: Any) -> list[list[int] | None]:
    """The samples of each epoch, as the loader is told; None: all."""
    seen: list[list[int] | None] = []
    loader, real = engine.loaders["train"], engine.loaders["train"].epoch

    def epoch(number: int, sampling: EpochSampling | None = None) -> Any:
        seen.append(None if sampling is None else sampling.index.tolist())
        return real(number, sampling)

    loader.epoch = epoch
    train(engine, 4)
    return [x for i, x in enumerate(seen) if i + 1 == len(seen) or x is None or seen[i + 1] != x]


def test_easy_samples_come_first_and_more_with_every_epoch() -> None:
    engine = build("bss", **Q64)
    difficulty = engine.strategy.difficulties(engine)
    order = sorted(range(SAMPLES), key=lambda i: (float(difficulty[i]), i))
    seen = shown(engine)
    counts = [int(60 * (0.99 * (e + 1) / 4 + 0.01) ** 0.5) for e in range(3)]
    assert seen == [*(sorted(order[:count]) for count in counts), None]
    assert engine.strategy.order.tolist() == order
    assert engine.curves["share"] == pytest.approx([*(count / 60 for count in counts), 1.0])


def test_the_order_may_be_found_later() -> None:
    engine = build("bss", options={"measure_at": 2, "grow": 0.5}, **Q64)
    whole = train(build("bss", options={"measure_at": 9}, **Q64), 2)
    train(engine, 2)
    assert torch.equal(whole.model.fusion.head.weight, engine.model.fusion.head.weight)  # all samples until then
    assert int(engine.strategy.order[0]) == -1
    order = bss.difficulty_order(engine.strategy.difficulties(engine))
    train(engine)
    assert torch.equal(engine.strategy.order, order)
    assert engine.curves["share"][:2] == [1, 1] and engine.curves["share"][2] == pytest.approx(42 / 60)


@pytest.mark.parametrize("measure_at", [1, 3])
def test_a_run_resumed_before_or_after_the_order_is_known_is_the_same_run(measure_at: int) -> None:
    how = {"options": {"measure_at": measure_at, "grow": 0.9}, **Q64}
    whole = train(build("bss", **how), 2)
    state = copy.deepcopy(whole.state_dict())
    train(whole, 2)
    resumed = build("bss", seed=7, **how)
    resumed.seed = 0
    resumed.load_state_dict(state)
    assert digest(train(resumed, 2)) == digest(whole) and resumed.curves == whole.curves
    assert whole.curves["share"][-1] < 1


def test_a_sample_with_one_modality_is_the_least_similar() -> None:
    logits = {m: rows(5, 4, seed) for seed, m in enumerate(THREE)}
    present = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 0, 0, 1, 1]]).bool()
    p = [z.softmax(1) for z in logits.values()]
    cosine = [
        [torch.cosine_similarity(p[i][k], p[j][k], 0) for i, j in pairs]
        for k, pairs in enumerate([[(0, 1), (0, 2), (1, 2)], [(0, 1)], [], [(1, 2)]])
    ]
    found = bss.mean_cosine(logits, present)
    close(found[[0, 1, 3]], torch.stack([torch.stack(cosine[k]).mean() for k in (0, 1, 3)]))
    assert found[[2, 4]].isnan().all()
    difficulty = bss.sequence_difficulty(found, torch.zeros(5).double())
    assert difficulty[[2, 4]].tolist() == [1, 1] and float(difficulty.min()) == 0


def test_losses_are_those_of_what_a_sample_has() -> None:
    engine = build("bss", missing=True, options={"fused_weight": 0.3}, **Q64)
    for output, batch in engine.predict("train"):
        found = engine.strategy.sample_losses(output, batch)
        ce = {
            m: torch.nn.functional.cross_entropy(z, batch.label, reduction="none")
            for m, z in (*output.unimodal_logits.items(), ("fused", output.extra["fused"]))
        }
        close(found, 0.3 * ce["fused"] + 0.7 * sum(batch.has_all([m]) * ce[m] for m in TWO))
        seen = torch.stack([batch.has_all([m]) for m in TWO])[..., None]
        close(output.logits, (seen * torch.stack(list(output.unimodal_logits.values()))).sum(0))


def test_what_does_not_differ_says_nothing() -> None:
    assert bss.min_max_scale(torch.tensor([2.0, 2.0, 2.0 + 1e-14])).tolist() == [0, 0, 0]
    assert bss.min_max_scale(torch.full((3,), torch.nan)).tolist() == [0, 0, 0]
    assert bss.min_max_scale(torch.tensor([1.0, torch.nan, 3.0])).tolist() == [0, 0, 1]
    assert bss.difficulty_order(torch.tensor([1.0, 0.5, 1.0, 0.5])).tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize(("lam0", "grow"), [(0.0, 1), (0.3, 7), (1.0, 5), (0.1, 40), (0.7, 3)])
def test_the_share_grows_to_all(lam0: float, grow: int) -> None:
    shares = [bss.share_of_epoch(e, lam0, grow) for e in range(grow + 2)]
    assert shares == sorted(shares) and min(shares) >= lam0
    assert shares[grow - 1 :] == [1.0] * 3 and bss.share_count(1000, shares[-1]) == 1000
    assert bss.share_count(3, 0.9) == 2


def test_an_epoch_has_a_batch_even_if_the_share_is_smaller() -> None:
    engine = build("bss", options={"lam0": 0.0, "grow": 25.0})
    full_batches = engine.loaders["train"].epoch

    def epoch(number: int, sampling: EpochSampling | None = None) -> Any:
        return [
            batch for batch in full_batches(number, sampling) if len(batch) == 16
        ]  # as a loader that drops the last

    engine.loaders["train"].epoch = epoch  # type: ignore[method-assign]
    train(engine)
    assert engine.step == 1 and engine.curves["share"] == pytest.approx([16 / 60])


@pytest.mark.parametrize(
    "options", [{"fused_weight": 1.5}, {"lam0": -0.1}, {"grow": 0.0}, {"measure_at": -1}, {"grow": float("nan")}]
)
def test_wrong_options_are_named_in_a_line(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}=") as error:
        strategy("bss", **options)
    assert "\n" not in str(error.value)
