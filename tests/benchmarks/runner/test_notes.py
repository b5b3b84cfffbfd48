"""What a reader of a number is told where a method, or its setting, is not what one would think."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.config.run_config import configure
from benchmarks.config.suite import compare, competing
from benchmarks.runner.experiment import notes, resolve


def said(**given: Any) -> list[str]:
    return notes(resolve(configure({"dataset": "synthav", **given})))


@pytest.mark.parametrize(("method", "last"), [
    ("ogm", 50), ("ogm_ge", 50), ("ge_noise", 50), ("weak_boost", 50), ("pmr", 70), ("mbsd", 80), ("opm_ogm", 60),
])  # fmt: skip
def test_a_window_that_the_run_is_too_short_to_leave_is_noted(method: str, last: int) -> None:
    (note,) = said(method=method)
    assert f"acts until epoch {last}, counted from 0, which a run of 20 epochs does not exceed" in note
    assert len(said(method=method, epochs=last + 1)) == 1 and not said(method=method, epochs=last + 2)
    option = "ogm_end" if method == "opm_ogm" else "end"
    assert f"method_args.{option}" in note and not said(method=method, method_args={option: 10})
    assert not said(method=method, method_args={option: None})


def test_other_notes_stand_beside_it() -> None:
    assert len(said(method="ogm_ge", optimizer="adam")) == 2 and len(said(method="agm", optimizer="adam")) < 2
    assert not said(method="vanilla") and not said(method="cml")


def test_ogm_has_the_readmes_strength_on_vggsound() -> None:
    for method in ("ogm", "ogm_ge"):
        assert configure({"dataset": "vggsound", "method": method}).method_args == {"alpha": 0.1}
        assert configure({"dataset": "crema_d", "method": method}).method_args == {"alpha": 0.8}


def test_pmr_has_its_commands_settings_on_cg_mnist() -> None:
    assert configure({"dataset": "cg_mnist", "method": "pmr"}).method_args == {"alpha": 1.0, "end": 60}
    assert configure({"dataset": "crema_d", "method": "pmr"}).method_args == {}


def test_inforeg_has_the_released_strengths_on_crema_d_alone() -> None:
    assert configure({"dataset": "crema_d", "method": "inforeg"}).method_args == {
        "beta": {"audio": 0.95, "visual": 0.1}
    }
    assert configure({"dataset": "synthav", "method": "inforeg"}).method_args == {}


@pytest.mark.parametrize("dataset", ["synthav", "avmnist"])
def test_distillation_is_compared_with_and_without_alignment(dataset: str) -> None:
    rows = {row.label: row.configs for row in compare({"dataset": dataset}, competing(["all"]), 2).tables[0].rows}
    plain, aligned = rows["kd_strong_to_weak"], rows["kd_strong_to_weak + alignment"]
    for one, other in zip(plain, aligned, strict=True):
        assert other.method == "kd_strong_to_weak" and other.method_args == {**one.method_args, "w_mta": 0.005}
        assert other.model_copy(update={"method_args": one.method_args}) == one
    assert [row.label for row in compare({}, competing(["kd_strong_to_weak + alignment"]), 1).tables[0].rows] == [
        "vanilla",
        "kd_strong_to_weak + alignment",
    ]


def test_mcr_is_compared_from_scratch_and_from_encoders_trained_alone() -> None:
    rows = {row.label: row.configs for row in compare({}, competing(["all"]), 2).tables[0].rows}
    for scratch, pretrained in zip(rows["mcr"], rows["mcr + pretrained"], strict=True):
        assert "pretrained" not in scratch.method_args
        assert pretrained.method == "mcr" and pretrained.method_args == {**scratch.method_args, "pretrained": True}


@pytest.mark.parametrize(
    ("form", "method", "differs"),
    [
        ("arl as released", "arl", {"variant": "code"}),
        ("aug as in the paper", "aug", {"variant": "paper"}),
        ("aug + merge 0.4", "aug", {"merge": 0.4}),
    ],
)
def test_what_paper_and_code_do_differently_is_compared_both_ways(
    form: str, method: str, differs: dict[str, object]
) -> None:
    rows = {row.label: row.configs for row in compare({}, competing(["all"]), 2).tables[0].rows}
    for default, other in zip(rows[method], rows[form], strict=True):
        assert other.method == method and other.method_args == {**default.method_args, **differs}
        assert other.model_copy(update={"method_args": default.method_args}) == default
