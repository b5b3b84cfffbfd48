"""MCR: permutations of the batch, who may learn from them, and its other losses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.fusions.concat import Concat
from ogm.context import Context
from ogm.parts.heads import add_parts
from ogm.strategies.mcr import Game, counted_positions, draw_permutations, game_loss, game_terms, proper_subsets, redraw
from ogm.types import Output, Prerequisite
from tests.helpers.engines import THREE, TWO, build, digest, flat, strategy, train
from tests.helpers.methods import build64, close, one_step, weights


def test_two_modalities_share_their_permutations_and_three_do_not() -> None:
    two, three = (draw_permutations(modalities, 3, 20, Context(step=4)) for modalities in (TWO, THREE))
    assert torch.equal(two["audio"], two["visual"]) and not torch.equal(three["audio"], three["visual"])
    assert all(torch.equal(p.sort().values, torch.arange(20).expand(3, 20)) for p in three.values())
    again, other = (draw_permutations(TWO, 3, 20, Context(step=step)) for step in (4, 5))
    assert torch.equal(again["audio"], two["audio"]) and not torch.equal(other["audio"], two["audio"])


def test_a_permutation_that_leaves_no_pair_is_shifted() -> None:
    label = torch.tensor([0, 0, 1, 1])
    drawn = {"audio": torch.tensor([[1, 0, 3, 2], [2, 3, 0, 1]])}  # the first leaves every label where it is
    assert not counted_positions(drawn, label, None, "other_label")[0].any()
    chosen, counted = redraw(drawn, label, None, "other_label")
    assert chosen["audio"].tolist() == [[0, 3, 2, 1], [2, 3, 0, 1]] and counted.sum(1).tolist() == [2, 4]
    assert torch.equal(counted, label[chosen["audio"]] != label)
    _, counted = redraw(drawn, torch.zeros(4), None, "other_label")
    assert not counted.any()
    alone = {"audio": torch.zeros(2, 1, dtype=torch.int64)}
    assert not redraw(alone, torch.tensor([3]), None, "all")[1].any()


def test_positions_count_where_everything_is_there() -> None:
    permutations = {"audio": torch.tensor([1, 0, 3, 2]), "visual": torch.tensor([2, 1, 0, 3])}
    complete = torch.tensor([True, True, True, False])
    label = torch.arange(4)
    assert counted_positions(permutations, label, complete, "all").tolist() == [True, True, False, False]
    assert not counted_positions(permutations, label, label > 1, "all").any()  # only the last one: no pair


@pytest.mark.parametrize(("game", "count"), [("greedy", 18), ("independent", 9), ("collaborative", 6)])
def test_terms_of_three_modalities(game: str, count: int) -> None:
    terms = game_terms(THREE, game)  # type: ignore[arg-type]
    assert len(terms) == count and len({term.subset for term in terms}) == 6
    assert all(term.sign == (1 if term.learning.isdisjoint(term.subset) else -1) for term in terms)


def test_the_greedy_game_of_two_is_zero_and_moves_them() -> None:
    alone = {"w_uni": 0.0, "w_con": 0.0}
    for fusion in ("concat", "late", "film"):
        engine = build64("mcr", fusion, options={"weight": 1.0, **alone})
        with_game, without = one_step(engine), one_step(build64("vanilla", fusion))
        assert abs(float(engine.logs["loss/game"])) < 1e-15
        assert float(engine.logs["divergence/audio"]) > 0 and float(engine.logs["divergence/visual"]) > 0
        assert any(not torch.allclose(without[n], g) for n, g in with_game.items() if n.startswith("encoders."))
        assert not list(engine.strategy.parameters())
        off = one_step(build64("mcr", fusion, options={"weight": 0.0, **alone}))
        assert all(torch.equal(without[n], g) for n, g in off.items())


def test_parts_of_a_mean_add_up() -> None:
    """``late`` averages: with its weights over two it is ``sum``, and so must the game be."""
    alone = {"w_uni": 0.0, "w_con": 0.0, "weight": 3.0, "game": "independent"}
    late, added = build64("mcr", "late", options=alone), build64("mcr", "sum", options=alone)
    added.model.load_state_dict(late.model.state_dict())
    with torch.no_grad():
        for p in added.model.fusion.parameters():
            p /= 2
    one, other = one_step(late), one_step(added)
    close(late.logs["loss/game"], added.logs["loss/game"])  # type: ignore[arg-type]
    for name, gradient in one.items():
        if name.startswith("encoders."):
            close(gradient, other[name])


def test_all_terms_train_what_they_own() -> None:
    engine = build64("mcr", options={"w_ceb": 1.0})
    grads = one_step(engine)
    assert {n for n in grads if n.startswith(("heads.", "bottleneck."))} == {
        *(f"heads.{m}.{p}" for m in TWO for p in ("weight", "bias")),
        "bottleneck.0.weight",
        "bottleneck.1.weight",
    }
    assert {"loss/game", "loss/contrast", "loss/bottleneck"} <= engine.logs.keys()


def test_one_class_has_nothing_to_contrast() -> None:
    engine = build64("mcr", options={"pairs": "other_label"})
    engine.loaders["train"].data.label.zero_()  # type: ignore[attr-defined]
    grads = one_step(engine)
    assert all(torch.isfinite(g).all() for g in grads.values())
    assert float(engine.logs["loss/game"]) == float(engine.logs["loss/contrast"]) == 0


@pytest.mark.parametrize("pairs", ["all", "other_label", "other_sample"])
def test_missing_modalities_and_pairs(pairs: str) -> None:
    options = {"pairs": pairs, "w_ceb": 0.1}
    engines = [train(build("mcr", fusion, THREE, missing=True, options=options), 2) for fusion in ("concat", "film")]
    assert all(torch.isfinite(flat(engine)).all() for engine in engines)
    assert digest(engines[0]) == digest(train(build("mcr", "concat", THREE, missing=True, options=options), 2))


def test_it_starts_from_scratch_or_from_encoders_trained_alone() -> None:
    assert strategy("mcr").prerequisites(TWO) == {}
    engine = build("mcr", options={"pretrained": True})
    assert strategy("mcr", pretrained=True).prerequisites(TWO) == {
        m: Prerequisite("unimodal", {"modality": m}, "val_best") for m in TWO
    }
    for m, encoder in engine.model.encoders.items():
        assert torch.equal(weights(encoder), weights(engine.strategy._trained[m].encoder))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"weight": -1.0}, {"w_con": -0.1}, {"draws": 0}, {"temperature": 0.0}, {"w_ceb": float("nan")}]
)
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        strategy("mcr", **options)


def test_features_of_different_widths_are_brought_to_one_for_the_contrast() -> None:
    plan = strategy("mcr", w_ceb=1.0)
    fusion = Concat({"audio": 3, "visual": 5}, 4)
    plan.attach({m: nn.Identity() for m in TWO}, dims=fusion.dims, num_classes=4, fusion=fusion)
    assert isinstance(plan.adapters["audio"], nn.Linear) and isinstance(plan.adapters["visual"], nn.Identity)  # type: ignore[index]
    features = {"audio": torch.randn(6, 3), "visual": torch.randn(6, 5)}
    plan.backward(Output(fusion(features), {}, features), torch.arange(6) % 2)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in plan.parameters())


@pytest.mark.parametrize("game", ["greedy", "independent", "collaborative"])
def test_one_evaluation_per_subset_has_the_gradients_of_one_per_term(game: Game) -> None:
    generator = torch.Generator().manual_seed(0)
    values = {m: torch.randn(9, 4, generator=generator, dtype=torch.float64, requires_grad=True) for m in THREE}
    drawn = draw_permutations(THREE, 5, 9, Context(step=1))
    permutations = {subset: {m: drawn[m] for m in THREE if m in subset} for subset in proper_subsets(THREE)}
    counted = {s: counted_positions(p, torch.arange(9) % 4, None, "other_label") for s, p in permutations.items()}
    found = []
    for combine in (add_parts, lambda parts: add_parts(parts)):  # the second is not known to be a sum
        loss, divergence = game_loss(values, add_parts(values), permutations, counted, game, combine)
        found.append([loss, *divergence.values(), *torch.autograd.grad(loss, list(values.values()))])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)
