"""The page without a browser: its numbers are those of the tables, its libraries those that are recorded."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.config.suite import Suite, compare
from benchmarks.records import suite_file
from benchmarks.records.record import RunRecord
from benchmarks.records.store import read_records
from benchmarks.reporting import figures, report
from benchmarks.reporting.across import across_data, ranked_data
from benchmarks.reporting.page import (
    ASSETS,
    LIBRARIES,
    LICENCES,
    MOST_DRAWN,
    SCRIPTS,
    STYLES,
    Drawing,
    asset,
    digest,
    page,
)
from benchmarks.reporting.page_data import Chapter, data_block
from benchmarks.reporting.page_numbers import PARTS, POINTS, row_curves, views
from benchmarks.reporting.tables import EMPTY, format_tables
from tests.helpers.records import HOSTILE, filled, record, small, stopped
from tests.helpers.suites import one_line_each

VANILLA, OGM_GE, OGM = [0.80, 0.82, 0.78], [0.85, 0.83, 0.87], [0.84, 0.84, 0.84]


def chapter(suite: Suite, records: dict[str, RunRecord]) -> Chapter:
    return Chapter(suite, "all done", format_tables(suite.tables, records), records, [])


def ranked(suite: Suite, dataset: str = "synthav") -> Suite:
    table = dataclasses.replace(suite.tables[0], ranked=True, dataset=dataset)
    return dataclasses.replace(suite, tables=(table,))


def data(*chapters: Chapter) -> Any:
    return json.loads(data_block(chapters))


# ---- numbers


def numbers(found: list[dict[str, Any]], measure: str, selection: str, rule: str) -> list[dict[str, Any]]:
    (view,) = [v for v in found if (v["measure"], v["selection"], v["rule"]) == (measure, selection, rule)]
    return [dict(zip(PARTS, row, strict=True)) for row in view["rows"]]


def test_the_declared_view_is_the_table() -> None:
    suite = small(seeds=6)
    records = filled(suite, [[0.7, 0.72, 0.71, 0.69, 0.7, 0.73], [0.75, 0.78, 0.77, 0.71, 0.74, 0.8]])
    table = suite.tables[0]
    line = format_tables([table], records)[0].numbers.set_index("row").loc["ogm_ge"]
    row = numbers(views(table, records), "accuracy", "val_best", "own")[1]
    assert (row["mean"], row["std"]) == pytest.approx((line["val_best_mean"], line["val_best_std"]), abs=1e-4)
    assert (row["low"], row["high"]) == pytest.approx((line["val_best_low"], line["val_best_high"]), abs=1e-4)
    difference = [row[name] for name in ("difference", "difference_low", "difference_high")]
    ends = [line[f"difference_{end}"] for end in ("mean", "low", "high")]
    assert difference == pytest.approx(ends, abs=1e-4)
    assert (row["wins"], row["pairs"]) == (line["wins"], line["pairs"]) == (6, 6)


def test_other_views_have_their_own_numbers() -> None:
    suite = small()
    found = views(suite.tables[0], filled(suite, [VANILLA, OGM_GE]))
    assert [row["mean"] for row in numbers(found, "accuracy", "last", "own")] == [80, 85]
    assert [row["mean"] for row in numbers(found, "accuracy", "test_best", "own")] == [82, 87]
    assert [row["mean"] for row in numbers(found, "accuracy", "val_best", "branch/audio")] == [70, 75]
    losses = numbers(found, "loss", "val_best", "own")
    assert losses[1]["mean"] == 0.5 and losses[1]["wins"] == 0
    assert losses[1]["low"] is None  # three units have no interval
    assert not [view for view in found if view["selection"] != "val_best" and view["rule"] != "own"]


def test_a_lower_loss_wins() -> None:
    suite = small(seeds=2)
    records = filled(suite, [[0.8, 0.8], [0.8, 0.8]])
    for config, loss in zip(suite.tables[0].rows[1].configs, (0.4, 0.7), strict=True):
        r = records[config.key]
        records[config.key] = dataclasses.replace(r, test={s: {**t, "loss": loss} for s, t in r.test.items()})
    row = numbers(views(suite.tables[0], records), "loss", "last", "own")[1]
    assert (row["difference"], row["wins"], row["pairs"]) == (0.05, 1, 2)


def test_a_row_with_its_own_rule_is_not_read_by_another() -> None:
    suite = small()
    first, second = suite.tables[0].rows
    table = dataclasses.replace(suite.tables[0], rows=(first, dataclasses.replace(second, rule="branch/visual")))
    found = views(table, filled(suite, [VANILLA, OGM_GE]))
    assert [row["mean"] for row in numbers(found, "accuracy", "val_best", "own")] == [79, 45]
    (view,) = [v for v in found if (v["measure"], v["rule"]) == ("accuracy", "branch/audio")]
    assert view["rows"][0][0] == 70 and view["rows"][1] is None


def test_a_row_without_a_result_has_its_reason_and_no_numbers() -> None:
    suite = small()
    records = filled(suite, [VANILLA, OGM_GE])
    bad = suite.tables[0].rows[1].configs[1]
    records[bad.key] = stopped(bad, "diverged", "not finite")
    (table,) = data(chapter(suite, records))["tables"]
    assert table["views"][0]["rows"][1] is None
    assert table["rows"][1]["state"] == "diverged 1/3" and "curves" not in table["rows"][1]


def test_curves_are_thinned_and_keep_their_ends() -> None:
    suite = small(seeds=2)
    row = suite.tables[0].rows[0]
    records = {}
    for config, top in zip(row.configs, (0.8, 0.6), strict=True):
        epochs = 400
        r = record(config.model_copy(update={"epochs": epochs}), top)
        records[config.key] = dataclasses.replace(r, key=config.key)
    made = row_curves(row, records, ["audio"])
    assert len(made["epochs"]) == POINTS and (made["epochs"][0], made["epochs"][-1]) == (1, 400)
    means, stds = made["curves"]["train/discrepancy_ratio/audio"]
    assert means[-1] == pytest.approx(1 + 2 * 0.7, abs=0.01) and stds[-1] == pytest.approx(0.283, abs=1e-3)
    assert all(len(x) == POINTS for curve in made["curves"].values() for x in curve)


def test_methods_are_told_from_their_classes() -> None:
    suite = small()
    methods = data(chapter(suite, filled(suite, [VANILLA, OGM_GE])))["methods"]
    assert methods["ogm_ge"]["title"].startswith("On-the-fly Gradient Modulation")
    assert methods["ogm_ge"]["idea"] and methods["ogm_ge"]["differences"] and methods["ogm_ge"]["facts"]["paper"]
    assert methods["vanilla"]["cost"] == 1  # of joint training


# ---- several data sets


def test_ranks_are_averaged_over_the_data_sets_that_a_setting_has() -> None:
    first, second = ranked(small(("vanilla", "ogm_ge", "ogm"))), ranked(small(("vanilla", "ogm_ge")), "avmnist")
    found = across_data(
        [
            *format_tables(first.tables, filled(first, [VANILLA, OGM_GE, OGM])),
            *format_tables(second.tables, filled(second, [OGM_GE, VANILLA])),
        ]
    ).set_index("setting")
    assert list(found.index) == ["ogm_ge", "vanilla", "ogm"]  # equal means: more data sets first
    assert found["mean rank"].to_dict() == {"ogm_ge": "1.5", "vanilla": "2.0", "ogm": "2.0"}
    assert list(found.loc["ogm"]) == ["2.0", "1", "2 of 3", EMPTY]


def test_data_of_one_set_with_other_options_are_other_data() -> None:
    suites = [compare({"dataset_args.preset": preset}, ["vanilla", "ogm_ge"], 3) for preset in ("default", "additive")]
    tables = [t for s in suites for t in format_tables(s.tables, filled(s, [VANILLA, OGM_GE]))]
    assert ranked_data(tables) == ["synthav", "synthav preset=additive"]
    assert set(across_data(tables)["data sets"]) == {"2"}


# ---- the document


def test_hostile_names_cannot_leave_the_data() -> None:
    end = "</script><script>alert(1)</script><!--"
    suite = small(("vanilla", f"{HOSTILE} {end}"))
    block = data_block([chapter(suite, filled(suite, [VANILLA, OGM_GE]))])
    assert not set("<>&") & set(block)
    assert json.loads(block)["tables"][0]["rows"][1]["label"] == f"{HOSTILE} {end}"


def test_the_policy_allows_our_scripts_by_their_digests_and_nothing_else() -> None:
    suite = small()
    html = page("A page", [chapter(suite, filled(suite, [VANILLA, OGM_GE]))], {})
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 2 and rules["script-src"].split() == [digest(script) for script in scripts]
    word = base64.b64encode(hashlib.sha256(scripts[1].encode()).digest()).decode()
    assert f"'sha256-{word}'" in rules["script-src"]
    assert not re.search(r"<[^>]*\son\w+=", html.partition("<script")[0])


def test_many_figures_stay_in_their_folder() -> None:
    suite = small()
    made = chapter(suite, filled(suite, [VANILLA, OGM_GE]))
    for size, there in ((1000, True), (MOST_DRAWN, False)):
        drawing = Drawing("a", "a figure", "", b"<svg><desc>" + b"x" * size + b"</desc></svg>")
        html = page("A page", [made], {suite.tables[0].slug: [drawing]})
        assert ("a figure" in html) == there and ("in the folder figures" in html) != there


@pytest.mark.parametrize("name", [LIBRARIES, *SCRIPTS, *STYLES])
def test_an_asset_can_stand_in_a_page(name: str) -> None:
    text = asset(name)
    assert "</script" not in text.lower() and "</style" not in text.lower() and "<!--" not in text
    assert "\r" not in text  # a browser would change it before it computes the digest
    assert not re.search(r"\beval\(|new Function|document\.write", text)
    assert name not in STYLES or not re.search(r"url\(|@import", text)
    assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_our_own_scripts_are_short_and_make_no_html_of_texts(name: str) -> None:
    text = asset(name)
    assert len(text.splitlines()) <= 400 and max(map(len, text.splitlines())) <= 160
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\.on\w+ =|setAttribute\(\"on", text)


def test_the_libraries_are_those_that_were_built() -> None:
    recorded = dict(line.split()[::-1] for line in asset("SHA256SUMS").splitlines())
    assert set(recorded) == {"libraries.js", "libraries.css", "package-lock.json", *LICENCES}
    for name, word in recorded.items():
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == word, name
    asked, lock = json.loads(asset("package.json")), json.loads(asset("package-lock.json"))["packages"]
    for name, version in {**asked["dependencies"], **asked["devDependencies"]}.items():
        assert re.fullmatch(r"[\d.]+", version) and lock[f"node_modules/{name}"]["version"] == version
    assert all("resolved" not in package for package in lock.values())
    assert all("Permission is hereby granted" in asset(name) for name in LICENCES)


# ---- the command


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two comparisons on one data set, as folders with records."""
    made = []
    for methods in (["vanilla", "ogm_ge"], ["vanilla", "ogm"]):
        asked = suite_file.Comparison(given={"dataset": "synthav", "epochs": 4}, methods=methods, seeds=2)
        folder = tmp_path / "-".join(methods)
        suite = suite_file.claim(folder, asked, asked.suite(), overwrite=False)
        for i, config in enumerate(suite.configs()):
            record(config, 0.7 + i / 100).save(folder)
        made.append(folder)
    return made


def test_one_page_of_several_folders(folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made" / "page.html"
    assert main(["page", *map(str, [*folders, folders[0]]), "--out", str(out), "--title", HOSTILE]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    html = out.read_text()
    assert html.count('class="table"') == 2 and "2 suites" in html  # a folder that is named twice is there once
    ids = re.findall(r'<section id="([^"]*)"', html)
    assert len(set(ids)) == len(ids) and set(re.findall(r'href="#([^"]*)"', html)) <= set(ids)
    first = out.read_bytes()
    assert main(["page", *map(str, folders), "--out", str(out), "--title", HOSTILE]) == 0
    assert out.read_bytes() == first


def test_what_is_no_folder_of_results_is_one_line(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = one_line_each(["page", str(tmp_path), str(folders[0]), "--out", str(tmp_path / "x.txt")], capsys)
    assert len(lines) == 2 and "no suite.json" in lines[0] and ".html" in lines[1]
    assert not (tmp_path / "x.txt").exists()
    taken = tmp_path / "taken.html"
    taken.mkdir()
    (line,) = one_line_each(["page", str(folders[0]), "--out", str(taken)], capsys)
    assert str(taken) in line


def test_make_report_names_the_page() -> None:
    root = Path(__file__).parents[3]
    shown = subprocess.run(
        ["make", "--dry-run", "report", "FOLDERS=a b"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert "benchmarks page a b --out results/page.html" in shown


def test_the_report_of_one_folder_has_the_page(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "render", lambda figure, kind: b"<svg></svg>")  # slow, and tested in test_figures.py
    made = suite_file.read(folders[0])
    assert made is not None
    records = {r.key: r for r in read_records(folders[0])}
    html = dict(report.files(made.suite, records))["report.html"].decode()
    assert '<script type="application/json" id="data">' in html and "<svg" in html
