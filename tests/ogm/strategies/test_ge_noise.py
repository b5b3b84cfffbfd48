"""GENoise: the noise of OGM-GE, and nothing else."""

from __future__ import annotations

from tests.helpers.engines import build, digest, train


def test_it_is_ogm_ge_with_coefficients_of_one() -> None:
    noise = digest(train(build("ge_noise")))
    assert noise == digest(train(build("ogm_ge", options={"alpha": 0.0})))
    assert noise != digest(train(build("ogm_ge"))) and noise != digest(train(build("vanilla")))
