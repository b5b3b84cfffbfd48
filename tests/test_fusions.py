"""Fusions against slow or separate ways to the same numbers; missing and dropped modalities; gradients."""

from __future__ import annotations

import pytest
import torch

from tests.parts import EVEN, features, fusion


def test_late_averages_over_those_that_are_there() -> None:
    made, h = fusion("late", EVEN), features(EVEN)
    there = {
        "visual": torch.tensor([True, False, True, False, True]),
        "text": torch.tensor([True, True, False, False, True]),
    }
    z, said = made(h, there), made.unimodal_logits(h)
    for i in range(5):
        voters = [m for m in EVEN if m not in there or there[m][i]]
        torch.testing.assert_close(z[i], torch.stack([said[m][i] for m in voters]).mean(0))
    prob = fusion("late_prob", EVEN)
    z, said = prob(h, there), prob.unimodal_logits(h)
    for i in range(5):
        voters = [m for m in EVEN if m not in there or there[m][i]]
        torch.testing.assert_close(z[i].exp(), torch.stack([said[m][i].softmax(0) for m in voters]).mean(0))


@pytest.mark.parametrize("name", ["late", "late_prob"])
def test_a_sample_without_any_modality_is_judged_by_biases(name: str) -> None:
    made, h = fusion(name, EVEN), features(EVEN)
    z = made(h, {m: torch.zeros(5, dtype=torch.bool) for m in EVEN})
    torch.testing.assert_close(z, made(h, drop=set(EVEN)))
    assert torch.isfinite(z).all()


def test_symmetric_film_is_what_it_says() -> None:
    made, h = fusion("film_sym", EVEN), features(EVEN)
    parts = []
    for m in EVEN:
        said = [h[k] @ made.generators[m][k].weight.T + made.generators[m][k].bias for k in EVEN if k != m]
        mean = (said[0] + said[1]) / 2
        parts.append(mean[:, :6] * h[m] + mean[:, 6:])
    torch.testing.assert_close(made(h), made.head(torch.cat(parts, 1)))


def test_symmetric_gates_are_what_they_say() -> None:
    made, h = fusion("gated_sym", EVEN), features(EVEN)
    a = {m: made.projections[m](h[m]) for m in EVEN}
    parts = [a[m] / (1 + torch.exp(-sum(a[k] for k in EVEN if k != m) / 2)) for m in EVEN]
    torch.testing.assert_close(made(h), made.head(torch.cat(parts, 1)))
