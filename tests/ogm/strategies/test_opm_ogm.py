"""OPMOGM: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

from tests.helpers.engines import build, digest, train


def test_both_halves_of_opm_ogm_go_by_the_same_ratios() -> None:
    engine = train(build("opm_ogm", options={"alpha": 0.8, "p_exe": 0.0}))
    ogm = train(build("ogm", options={"alpha": 0.8}))
    assert digest(engine) == digest(ogm)  # no feature hidden: OGM
    closed = train(build("opm_ogm", options={"ogm_end": 0, "p_exe": 0.0}), 2)
    assert closed.curves["coefficient/audio"][1:] in ([], [None])  # the second epoch has none
    gentle = train(build("opm_ogm", options={"alpha": 0.8, "p_exe": 0.0, "variant": "tpami"}))
    assert min(gentle.curves["coefficient/audio"]) > min(engine.curves["coefficient/audio"])


def test_with_noise_and_nothing_hidden_opm_ogm_is_ogm_ge() -> None:
    """What the released scripts run as OGM."""
    noisy = train(build("opm_ogm", options={"alpha": 0.8, "p_exe": 0.0, "noise": True}), 2)
    assert digest(noisy) == digest(train(build("ogm_ge", options={"alpha": 0.8}), 2))
    ended = train(build("opm_ogm", options={"ogm_end": 0, "start": 1, "noise": True, "p_exe": 0.0}), 2)
    assert digest(ended) == digest(train(build("vanilla"), 2))  # outside the window there is none
