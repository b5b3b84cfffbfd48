"""KDStrongToWeak: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ogm.losses import kl
from ogm.strategies.kd_strong_to_weak import align_positions, attention_alignment, pooling_matrix, soft_targets
from tests.helpers.engines import THREE, TWO, build, strategy, train
from tests.helpers.methods import rows, weights


def test_a_perfect_teacher_at_temperature_one_is_the_label() -> None:
    label = torch.tensor([0, 2, 1])
    student = rows(3, 4)
    perfect = 1e4 * F.one_hot(label, 4).double()
    torch.testing.assert_close(
        soft_targets(perfect, student, 1.0), F.cross_entropy(student, label, reduction="none"), rtol=1e-9, atol=1e-9
    )
    assert not soft_targets(student, student, 4.0).abs().gt(1e-12).any()


@pytest.mark.parametrize("strong", [None, "audio", "visual"])
def test_the_strong_teaches_and_never_moves(strong: str | None) -> None:
    engine = build("kd_strong_to_weak", options={"strong": strong, "fuse": 1})
    plan, model = engine.strategy, engine.model
    right = dict.fromkeys(TWO, 0)
    for batch in engine.loaders["val"].all():
        for m in TWO:
            right[m] += int((plan._trained[m](batch.inputs[m]).logits.argmax(1) == batch.label).sum())
    teacher = strong or max(right, key=lambda m: right[m])
    weak = next(m for m in TWO if m != teacher)
    fusion = weights(model.fusion)
    for _ in range(3):
        student = weights(model.encoders[weak])
        train(engine)
        assert torch.equal(weights(model.encoders[teacher]), weights(plan._trained[teacher].encoder))  # type: ignore[arg-type]
        assert not torch.equal(student, weights(model.encoders[weak])) and torch.equal(fusion, weights(model.fusion))
        for output, batch in engine.predict("val"):  # no fusion yet: the mean of what the heads say
            own = output.unimodal_logits
            torch.testing.assert_close(
                output.logits.softmax(1), (own["audio"].softmax(1) + own["visual"].softmax(1)) / 2
            )
            said = plan._trained[teacher](batch.inputs[teacher]).logits
            torch.testing.assert_close(own[teacher], said)
    student = weights(model.encoders[weak])
    engine.optimizer.param_groups[0]["lr"] = 1e-9  # type: ignore[union-attr]  # where a schedule may have got to
    train(engine)
    assert torch.equal(student, weights(model.encoders[weak])) and not torch.allclose(fusion, weights(model.fusion))
    output, batch = next(iter(engine.predict("val")))
    torch.testing.assert_close(output.logits, model.fusion(output.features))


def test_a_student_comes_to_agree_with_its_teacher() -> None:
    engine = build("kd_strong_to_weak", options={"strong": "audio", "fuse": 0})

    def gap() -> float:
        found = [kl(o.unimodal_logits["audio"], o.unimodal_logits["visual"]) for o, _ in engine.predict("val")]
        return float(torch.cat(found).mean())

    train(engine)
    first = gap()
    assert gap() == first
    train(engine, 3)
    assert gap() < first


def test_attention_maps_meet_in_time_or_on_the_smaller_grid() -> None:
    sound, film = torch.rand(2, 8, 10), torch.rand(2, 4, 4)
    in_time = align_positions((sound, sound.mean(1)), (film, torch.rand(2, 3)))
    assert [x.shape for x in in_time] == [(2, 3), (2, 3)]
    on_grid = align_positions((sound, sound.mean(1)), (film, None))
    assert [x.shape for x in on_grid] == [(2, 16), (2, 16)]
    assert all(torch.allclose(x.norm(dim=1), torch.ones(2)) for x in (*in_time, *on_grid))
    for length, number in ((10, 3), (8, 4), (7, 7), (5, 1)):
        x = torch.rand(2, length)
        torch.testing.assert_close(
            x @ pooling_matrix(length, number, x).T, F.adaptive_avg_pool1d(x[:, None], number)[:, 0]
        )
    same = in_time[0]
    assert (
        not attention_alignment(same, [same]).abs().gt(1e-7).any()
        and (attention_alignment(same, [in_time[1]]) > 0).all()
    )


def test_attention_is_asked_of_encoders_that_have_maps() -> None:
    trained = build("umt").strategy._trained
    plan = strategy("kd_strong_to_weak", w_mta=0.1)
    with pytest.raises(ValueError, match="needs fold and maps"):
        plan.attach({m: nn.Linear(2, 8) for m in TWO}, fusion=nn.Linear(1, 1), trained=trained)
    engine = train(build("kd_strong_to_weak", modalities=THREE, options={"w_mta": 1.0, "kinds": {"audio": "image"}}))
    assert engine.curves["loss/attention/text"][0] is not None or engine.curves["loss/attention/audio"][0] is not None
