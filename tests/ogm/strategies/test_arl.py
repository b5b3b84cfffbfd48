"""ARL: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ogm.context import Context
from ogm.strategies.arl import ARL, asymmetry, statistics
from ogm.types import Batch
from tests.helpers.engines import THREE, TWO, build, digest, flat, strategy, train
from tests.helpers.methods import build64, close, one_step, rows


def batch(label: list[int], **present: list[bool]) -> Batch:
    there = {m: torch.tensor(x) for m, x in present.items()}
    return Batch({}, torch.tensor(label), torch.arange(len(label)), there)


def test_the_surer_modality_gets_the_larger_coefficient() -> None:
    logits = {"a": 4 * rows(6, 4, 1), "v": 0.1 * rows(6, 4, 2)}
    found = statistics(logits, batch([0, 1, 2, 3, 0, 1]), Context())
    decided = asymmetry(found, 4.0)
    assert found.entropy["a"] < found.entropy["v"] and decided.q_ratio > 1
    assert decided.coefficient["a"] + decided.coefficient["v"] == pytest.approx(1.0)
    swapped = asymmetry(statistics(dict(reversed(logits.items())), batch([0, 1, 2, 3, 0, 1]), Context()), 0.0)
    assert swapped.coefficient["a"] == swapped.coefficient["v"] == 0.5


def test_only_samples_with_both_modalities_count() -> None:
    logits, label = {"a": rows(5, 4, 1), "v": rows(5, 4, 2)}, [0, 1, 2, 3, 0]
    some = statistics(logits, batch(label, a=[True, True, False, True, False], v=[True] * 5), Context())
    kept = statistics({m: z[[0, 1, 3]] for m, z in logits.items()}, batch([0, 1, 3]), Context())
    for name in ("entropy", "magnitude", "score"):
        for m in logits:
            close(getattr(some, name)[m], getattr(kept, name)[m])


def plan() -> Any:
    made = ARL()
    made.modalities = ("a", "v")
    return made


def test_numbers_at_the_edge_saturate_and_what_is_no_number_changes_nothing() -> None:
    sure = {"a": 1e4 * torch.eye(4), "v": torch.zeros(4, 4)}
    found, label = statistics(sure, batch([0, 1, 2, 3]), Context()), batch([0, 1, 2, 3])
    assert found.entropy["a"] == 0
    assert [float(k) for k in plan().factors(found, Context()).values()] == [2.0, 1.0]
    wrong = {"a": torch.full((4, 4), torch.nan), "v": torch.zeros(4, 4)}
    ctx = Context()
    assert [float(k) for k in plan().factors(statistics(wrong, label, ctx), ctx).values()] == [1.0, 1.0]
    assert ctx.logs["coefficients_not_finite"] == 2
    nobody = batch([0, 1, 2, 3], a=[False] * 4, v=[True] * 4)
    ctx = Context(debug=True)  # is no error: there is nothing to decide from
    assert [float(k) for k in plan().factors(statistics(sure, nobody, ctx), ctx).values()] == [1.0, 1.0]


@pytest.mark.parametrize("fusion", ["concat", "gated"])
def test_encoders_get_the_factor_and_the_fusion_its_own_gradient(fusion: str) -> None:
    ours, plain = build64("arl", fusion), build64("arl", fusion)
    plain.strategy.on_gradients = lambda *_: None
    scaled, unscaled = one_step(ours), one_step(plain)
    factor = {m: ours.logs[f"coefficient/{m}"] for m in TWO}
    assert sum(float(k) for k in factor.values()) == pytest.approx(3.0)
    for name, grad in unscaled.items():
        parts = name.split(".")
        close(scaled[name], grad * factor[parts[1]] if parts[0] == "encoders" else grad)


def test_the_unimodal_logits_have_the_whole_bias() -> None:
    engine = build64("arl")
    with torch.no_grad():
        engine.model.fusion.head.bias.fill_(3.0)
    output, _ = next(iter(engine.predict("val")))
    both = output.unimodal_logits["audio"] + output.unimodal_logits["visual"]
    close(both - output.logits, torch.full_like(both, 3.0))


def test_under_adam_updates_can_be_scaled() -> None:
    how: dict[str, Any] = {"optimizer": "adam", "options": {"target": "update"}}
    ours, plain = build64("arl", **how), build64("arl", **how)
    plain.strategy.on_gradients = lambda *_: None
    start = flat(ours).clone()
    for engine in (ours, plain):
        engine.logs = {}
        engine.strategy.step(engine.loaders["train"].epoch(0)[0], engine)  # type: ignore[index]
    factor, place = {m: ours.logs[f"coefficient/{m}"] for m in TWO}, 0
    moved, plainly = flat(ours) - start, flat(plain) - start
    for name, p in ours.model.named_parameters():
        rows_of, parts = slice(place, place := place + p.numel()), name.split(".")
        close(moved[rows_of], plainly[rows_of] * (factor[parts[1]] if parts[0] == "encoders" else 1.0))


def test_the_code_scales_every_encoder_alike_after_its_first_epochs() -> None:
    engine = train(build("arl", modalities=THREE, options={"variant": "code", "warmup": 1}), 2)
    assert engine.curves["coefficient/text"] == [None, 1.5]
    two = train(build("arl", options={"variant": "code", "warmup": 1}))
    assert two.curves["printed_weight/audio"][0] + two.curves["printed_weight/visual"][0] == pytest.approx(1.0)
    assert "coefficient/audio" not in two.curves
    ones = train(build("arl", options={"variant": "code", "warmup": 1, "gamma": 9.0}))
    assert digest(ones) == digest(two) and digest(train(ones)) != digest(train(two))


def test_three_modalities_are_for_the_code_alone() -> None:
    with pytest.raises(ValueError, match="at most 2 modalities"):
        build("arl", modalities=THREE)
    with pytest.raises(ValueError, match="all must be 0 or more"):
        strategy("arl", gamma=-1.0)
