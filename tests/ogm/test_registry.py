"""Names and options of strategies."""

from __future__ import annotations

import math
from typing import Any

import pytest

import ogm
from tests.helpers.engines import build, strategy


def test_misspelt_options_get_the_suggestion_of_the_command_line() -> None:
    with pytest.raises(ValueError, match=r"^ogm_ge: there is no option 'alhpa'; did you mean 'alpha'\?$"):
        ogm.create("ogm_ge", alhpa=0.8)
    with pytest.raises(ValueError, match="there is no target='updat'; did you mean 'update'"):
        ogm.create("ogm", target="updat")
    with pytest.raises(ValueError, match=r"ogm: alpha='0\.8' is no float"):
        ogm.create("ogm", alpha="0.8")
    with pytest.raises(ValueError, match="ogm: end=True is no int"):
        ogm.create("ogm", alpha=1, end=True)
    with pytest.raises(ValueError, match=r"static_lr: there is no option 'x'; .*; the option 'factors' is missing"):
        ogm.create("static_lr", x=1)
    with pytest.raises(ValueError, match="vanilla: there is no option 'x'; there are none"):
        ogm.create("vanilla", x=1)


WRONG_OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("agm", {"alpha": -1}, "alpha=-1"),
    ("agm", {"cap": 0}, "cap=0"),
    ("agm", {"clip": 0.0}, "clip=0"),
    ("amco", {"eps": 0.0}, "eps=0"),
    ("cggm", {"rho": 0}, "rho=0"),
    ("cggm", {"classifier_lr": -1.0}, "classifier_lr=-1"),
    ("cml", {"lam": math.nan}, "lam=nan"),
    ("di_mml", {"certainty": 0.0}, "certainty=0"),
    ("di_mml", {"fuse": -1}, "fuse=-1"),
    ("diagnosing_relearning", {"period": 0}, "choose"),
    ("g2d", {"tau": [1, -1]}, "tau="),
    ("g2d", {"temperature": 0.0}, "temperature=0"),
    ("gblend", {"super_epoch": 0}, "must be"),
    ("greedy", {"window": 0}, "choose"),
    ("inforeg", {"window": 0}, "window=0"),
    ("kd_strong_to_weak", {"w_hard": 2.0}, "w_hard=2"),
    ("lfm", {"held_out": 0}, "held_out=0"),
    ("mbsd", {"w_kl": -1.0}, "w_kl=-1"),
    ("mlb", {"beta": 0.5}, "beta=0.5"),
    ("mmcosine", {"s": 0.0}, "s=0"),
    ("mmpareto", {"gamma": 0}, "gamma=0"),
    ("modality_valuation", {"warmup": -1}, "must be"),
    ("mses", {"patience": -1}, "patience=-1"),
    ("mslr", {"memory": 0}, "memory=0"),
    ("mslr", {"init": {"audio": 0.0}}, "init="),
    ("opm", {"q_base": 1.5}, "q_base=1.5"),
    ("opm", {"p_exe": -0.1}, "p_exe=-0.1"),
    ("opm_ogm", {"alpha": -1.0}, "alpha=-1"),
    ("opm_ogm", {"ogm_end": -1}, "ogm_end=-1"),
    ("pmr", {"alpha": -1.0}, "needs"),
    ("pmr", {"momentum": 1.0}, "needs"),
    ("reconboost", {"weight1": 1.0}, "choose"),
    ("reconboost", {"boost_epochs": 0}, "choose"),
    ("ssl_crossmodal", {"negatives": 0}, "negatives=0"),
    ("ssl_pretrain", {"warmup": -1}, "warmup=-1"),
    ("ssl_unimodal", {"temperature": 0.0}, "temperature=0"),
    ("ume", {"weights": {"audio": 0.0}}, "not all 0"),
    ("umt", {"lam": -1.0}, "lam=-1"),
    ("uncertainty_weighting", {"s_init": 9.0}, "s_init=9"),
]


@pytest.mark.parametrize(("method", "options", "message"), WRONG_OPTIONS, ids=str)
def test_wrong_options_are_named_in_a_line(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        strategy(method, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("g2d", {"tau": [1, 1]}, "1 in all"),
        ("inforeg", {"beta": {"odour": 1.0}}, "beta"),
        ("kd_strong_to_weak", {"strong": "smell"}, "there are audio, visual"),
        ("mslr", {"init": {"odour": 1.0}}, "init"),
        ("ssl_unimodal", {"modality": "smell"}, "there are audio, visual"),
        ("ume", {"weights": {"audio": 1.0}}, "exactly one weight"),
    ],
)
def test_options_that_do_not_fit_the_data_are_one_line(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build(method, options=options)
    assert "\n" not in str(error.value)
