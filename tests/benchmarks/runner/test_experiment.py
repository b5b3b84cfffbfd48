"""A configuration is resolved once: every look-up and every check, before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import datasets.registry
import ogm.registry
from benchmarks.config.run_config import ConfigError, RunConfig, configure, parse
from benchmarks.runner import experiment as module
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.experiment import IncompatibleError, resolve, resolve_all
from benchmarks.runner.run import run
from ogm.registry import STRATEGIES
from ogm.strategy import Strategy
from ogm.types import Prerequisite
from tests.helpers.commands import SMALL


def config(*settings: str) -> RunConfig:
    return configure({**parse([*SMALL, "epochs=2"]), **parse(settings)})


def test_one_run_looks_each_name_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with two teachers, which share everything but their method with it."""
    looked_up: Counter[tuple[str, str]] = Counter()
    find = ogm.registry.find

    def counting(name: str, names: Mapping[str, str], what: str) -> type[Any]:
        looked_up[what, name] += 1
        return find(name, names, what)

    for place in (module, datasets.registry, ogm.registry):
        monkeypatch.setattr(place, "find", counting)
    record = run(config("method=umt"), RunEnvironment(tmp_path / "results", tmp_path / "work"))
    assert record.status == "done" and len(list(tmp_path.rglob("records/**/*.json"))) == 3
    names = [
        ("strategy", "umt"),
        ("strategy", "unimodal"),
        ("fusion", "concat"),
        ("encoder", "cnn"),
        ("dataset", "synthav"),
        ("dataset", "synthav"),  # once more, for whether its fingerprints may be kept
    ]
    assert looked_up == Counter(names)


def test_all_mistakes_of_all_configurations_are_said_at_once() -> None:
    wrong = [
        config("method=ogm_ge", "method_args.alhpa=1", "fusion_args.width=3", "encoder_args.touch.width=1"),
        config("method=umt", "method_args.lam=[]", "encoder_args.audio.width=[1]"),
        config(),
    ]
    with pytest.raises(ConfigError) as error:
        resolve_all([*wrong, *wrong])
    said = [line.partition(":")[0].partition("=")[0] for line in error.value.mistakes]
    assert said == [
        "method_args.alhpa",
        "fusion_args.width",
        "encoder_args.touch",
        "method_args.lam",
        "encoder_args.audio.width",
    ]


def test_what_does_not_fit_is_kept_until_somebody_runs_it() -> None:
    short = resolve(config("method=kd_strong_to_weak", "epochs=1", "micro_batch=2"))
    assert not short.prerequisites
    with pytest.raises(IncompatibleError, match="give it more epochs"):
        short.require_runnable()
    resolve(config("method=kd_strong_to_weak")).require_runnable()


def test_several_reasons_are_said_together() -> None:
    strategy = resolve(config()).strategy
    strategy.needs_whole_batch = True
    with pytest.raises(IncompatibleError) as error:
        module.require_compatible(config("micro_batch=2"), strategy, first_final_epoch=2)
    assert len(error.value.mistakes) == 2


class Endless(Strategy):
    """Builds on itself."""

    category = "control"
    paper = "nobody"

    def prerequisites(self, modalities: Any) -> dict[str, Prerequisite]:
        return {"itself": Prerequisite("endless")}


def test_a_run_that_builds_on_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "endless", f"{__name__}:Endless")
    with pytest.raises(IncompatibleError, match="builds on a run that builds on it"):
        resolve(config("method=endless")).require_runnable()


def test_runs_that_share_a_teacher_share_its_experiment() -> None:
    one, other = resolve_all([config("method=umt"), config("method=g2d", "fusion=film")])
    assert one.prerequisites["audio"].experiment is other.prerequisites["audio"].experiment
    assert one.strategy.prerequisites(["audio"])["audio"].at == one.prerequisites["audio"].at
