"""suite.json: tables follow from it and the records alone; mistakes in it are lines."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.config import method_defaults, run_config, suite
from benchmarks.config.run_config import configure
from benchmarks.config.suite import Suite, Trial
from benchmarks.records import suite_file
from benchmarks.records.suite_file import Recorded
from benchmarks.reporting import figures
from benchmarks.reporting.report import files
from benchmarks.reporting.tables import format_table
from tests.helpers.records import filled, small
from tests.helpers.suites import one_line_each

REFERENCE = Path(__file__).resolve().parents[3] / "results" / "reference"


@pytest.mark.parametrize("name", ["avmnist", "compare-synthav"])
def test_tables_do_not_follow_todays_defaults(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Recipes and methods' defaults are changed, a suite's file and a method are gone: the committed tables stay.

    All that a method's class says in them is its full name, in a note.
    """
    monkeypatch.setattr(run_config, "recipe", lambda dataset, args: {"epochs": 7})
    monkeypatch.setattr(method_defaults, "METHODS", {})
    monkeypatch.setattr(suite, "FOLDER", tmp_path)
    monkeypatch.delitem(run_config.STRATEGIES, "ogm_ge")
    monkeypatch.setattr(figures, "render", lambda figure, kind: b"<svg></svg>")  # not compared, and slow
    folder = REFERENCE / name
    assert configure({"dataset": "synthav"}).epochs == 7
    for kept in ("suite.json", "records.jsonl.gz", "records.csv"):
        shutil.copy(folder / kept, tmp_path)
    assert main(["tables", str(tmp_path)]) == 0
    for path in [folder / "runs.csv", folder / "README.md", *sorted((folder / "tables").iterdir())]:
        committed = re.sub(r"; ogm\\?_ge: On-the-fly[^;.]*", "", path.read_text())
        assert (tmp_path / path.relative_to(folder)).read_text() == committed, path.name


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    made = Recorded({"suite": {"name": "small", "quick": False}}, small())
    suite_file.save(tmp_path, made)
    assert suite_file.read(tmp_path) == made


def test_a_row_may_get_its_runs_later(tmp_path: Path) -> None:
    whole = small(["vanilla", "tuned"])
    (table,) = whole.tables
    found = [configure({"seed": 1000 + s, "dataset_args.data_seed": 1000 + s, "epochs": 4}) for s in range(2)]
    rows = (table.rows[0], replace(table.rows[1], configs=()))
    late = replace(whole, tables=(replace(table, rows=rows),), trials=(Trial("tuned", 0, tuple(found)),))
    suite_file.save(tmp_path, Recorded({"suite": {"name": "small", "quick": False}}, late))
    read = suite_file.read(tmp_path)
    assert read is not None and read.suite == late
    records = filled(whole, [[0.7, 0.71, 0.72], [0.8, 0.81, 0.82]])
    numbers = format_table(read.suite.tables[0], records).numbers.set_index("row")
    assert numbers.loc["tuned", "state"] == "its settings are not found yet"
    readme = dict(files(read.suite, records))["README.md"].decode()
    assert readme.count("missing: there is no record of it") == len(found)  # the trial's runs, too
    now = suite_file.joined(late, replace(whole, trials=late.trials))
    numbers = format_table(now.tables[0], records).numbers.set_index("row")
    assert numbers.loc["tuned", "state"] == "" and numbers.loc["tuned", "last_mean"] == pytest.approx(81)
    assert suite_file.joined(now, late) == now


def test_fewer_seeds_lose_nothing_and_more_go_on() -> None:
    few, many = small(seeds=2), small(seeds=3)
    assert suite_file.joined(few, many).tables == suite_file.joined(many, few).tables == many.tables


def broken(change: dict[str, Any]) -> dict[str, Any]:
    """What suite.json holds, with some of it replaced, by dotted names."""
    content: dict[str, Any] = {
        "made_from": {"suite": {"name": "small", "quick": False}},
        "name": "small",
        "title": "A small suite",
        "quick": False,
        "tables": [table("table2", [row("vanilla")])],
        "runs": {ONE.key: ONE.model_dump(mode="json")},
    }
    return {**content, **change}


ONE = configure({"seed": 0})


def row(label: str, **more: Any) -> dict[str, Any]:
    return {"label": label, "against": None, "runs": [ONE.key], **more}


def trial(number: int, key: str) -> dict[str, Any]:
    return {"row": "x", "number": number, "competes": True, "runs": [key]}


def table(name: str, rows: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name, "title": "T", "dataset": "synthav", "variant": "SynthAV", "ranked": False, "rows": rows, **more
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "small"}, "nmae: there is no such setting; did you mean 'name'?"),
        ({"quick": 3}, "quick=3"),
        ({"tables": [table("t", [])]}, "tables.0.rows"),
        ({"tables": [table("t", [row("vanilla"), row("vanilla")])]}, "two rows are called 'vanilla'"),
        ({"tables": [table("t", [row("vanilla"), row("ogm", against="vanila")])]}, "did you mean 'vanilla'?"),
        ({"tables": [table("t", [row("vanilla")]), table("t", [row("x")])]}, "two tables are called t-synthav"),
        ({"tables": [table("t", [row("vanilla", runs=["0" * 12])])]}, f"table t: there is no run {'0' * 12}"),
        (
            {"trials": [{"row": "x", "number": 1, "competes": True, "runs": ["0" * 12]}]},
            f"trial 1 of x: there is no run {'0' * 12}",
        ),
        ({"trials": [trial(-1, ONE.key)]}, "trials.0.number=-1"),
        ({"runs": {"0" * 12: ONE.model_dump(mode="json")}}, f"its configuration has the key {ONE.key}"),
        ({"runs": {ONE.key: {**ONE.model_dump(mode="json"), "lr": "fast"}}}, f"runs.{ONE.key}.lr='fast'"),
        ({"runs": {ONE.key: {**ONE.model_dump(mode="json"), "sed": 0}}}, "sed: there is no such setting; did you mean"),
    ],
)
def test_a_mistake_is_one_line(
    change: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "suite.json").write_text(json.dumps(broken({})))
    good = suite_file.read(tmp_path)
    assert good is not None and isinstance(good.suite, Suite)
    (tmp_path / "suite.json").write_text(json.dumps(broken(change)))
    lines = one_line_each(["tables", str(tmp_path)], capsys)
    assert all(str(tmp_path / "suite.json") in line for line in lines) and message in lines[0]
