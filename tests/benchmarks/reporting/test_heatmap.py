"""Heat maps of two options of a data set: what is at which place, and where there is no result or no evidence."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.patches import Rectangle

from benchmarks.config.run_config import configure
from benchmarks.config.suite import Row, Suite, Table
from benchmarks.records.record import RunRecord
from benchmarks.reporting import figures, report
from benchmarks.reporting.heatmap import GREY, heatmaps
from tests.helpers.records import record, stopped

GAINS = {(0.5, 0.7): 0.02, (0.5, 0.9): 0.05, (0.8, 0.7): -0.04, (0.8, 0.9): 0.0}


def phase(seeds: int = 2, *, one_table: bool = False, **more: Any) -> tuple[Suite, dict[str, RunRecord]]:
    """Vanilla and ogm at four places, in a table each or all in one."""
    records: dict[str, RunRecord] = {}
    runs: dict[tuple[float, float], list[list[Any]]] = {}
    for (audio, visual), gain in GAINS.items():
        rows: list[list[Any]] = [[], []]
        for (i, method), seed in itertools.product(enumerate(("vanilla", "ogm")), range(seeds)):
            place = {"p_audio": audio, "p_visual": visual, "data_seed": seed, **more}
            config = configure({"method": method, "epochs": 4, "dataset_args": place})
            records[config.key] = record(config, 0.7 + 0.01 * seed + i * (gain + 0.01 * seed - 0.005 * (seeds - 1)))
            rows[i].append(config)
        runs[audio, visual] = rows
    groups = [list(runs)] if one_table else [[place] for place in runs]
    tables = []
    for group in groups:
        vanilla, ogm = ([config for place in group for config in runs[place][i]] for i in range(2))
        rows_ = (Row("vanilla", tuple(vanilla)), Row("ogm", tuple(ogm), "vanilla"))
        tables.append(Table("phase", "Phase", "synthav", f"SynthAV {group[0]}", rows_))
    return Suite("phase", "Phases", tuple(tables)), records


def cells(axes: Any) -> np.ndarray:
    (mesh,) = (c for c in axes.collections if isinstance(c, QuadMesh))
    return np.ma.filled(mesh.get_array(), np.nan)


@pytest.mark.parametrize("one_table", [False, True])
def test_differences_stand_at_their_places(one_table: bool) -> None:
    suite, records = phase(one_table=one_table)
    (picture,) = heatmaps(suite, records)
    axes = picture.figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("p_audio", "p_visual")
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.5", "0.8"]
    assert cells(axes) == pytest.approx(np.array([[2, -4], [5, np.nan]]), nan_ok=True)  # rows are p_visual
    assert axes.collections[0].get_clim() == (-5, 5)
    grey = [p for p in axes.patches if isinstance(p, Rectangle)]
    assert [(p.get_xy(), p.get_facecolor()[0]) for p in grey] == [((0.5, 0.5), pytest.approx(int(GREY[1:3], 16) / 255))]
    words = {t.get_text().replace("\N{MINUS SIGN}", "-") for t in axes.texts}
    assert words == {"+2.0\n(+1.5 to +2.5)", "+5.0\n(+4.5 to +5.5)", "-4.0\n(-4.5 to -3.5)", "+0.0\n(-0.5 to +0.5)"}
    assert "the least to the greatest of 2" in picture.caption and "On-the-fly Gradient" in picture.caption


def test_five_units_have_an_interval() -> None:
    suite, records = phase(seeds=5)
    (picture,) = heatmaps(suite, records)
    assert any("[" in t.get_text() for t in picture.figure.axes[0].texts)
    assert "95 % interval, Student's t over 5 units" in picture.caption


def test_a_place_without_result_is_hatched_and_says_why() -> None:
    suite, records = phase()
    missing, failed = suite.tables[0].rows[1].configs[0], suite.tables[1].rows[0].configs[0]
    del records[missing.key]
    records[failed.key] = stopped(failed, "failed", "out of memory")
    axes = heatmaps(suite, records)[0].figure.axes[0]
    assert np.isnan(cells(axes)[0, 0]) and np.isnan(cells(axes)[1, 0])
    assert {"missing 1/2", "failed 1/2"} <= {t.get_text() for t in axes.texts}
    assert axes.patch.get_hatch()


def test_options_of_a_preset_are_those_of_the_record() -> None:
    presets = {"p55_90": (0.55, 0.9), "p70_70": (0.7, 0.7), "p85_90": (0.85, 0.9), "p85_70": (0.85, 0.7)}
    tables, records = [], {}
    for name, (audio, visual) in presets.items():
        rows = []
        for method in ("vanilla", "ogm"):
            config = configure({"method": method, "epochs": 4, "dataset_args.preset": name})
            made = record(config, 0.7)
            made.data["recipe"] = {"p_audio": audio, "p_visual": visual, "data_seed": 0}  # type: ignore[typeddict-unknown-key]
            records[config.key] = made
            rows.append(Row(method, (config,), None if method == "vanilla" else "vanilla"))
        tables.append(Table("phase", "Phase", "synthav", name, tuple(rows)))
    (picture,) = heatmaps(Suite("s", "S", tuple(tables)), records)
    assert picture.kind == "heatmap-synthav-p_audio-p_visual"


def test_other_tables_have_no_map() -> None:
    suite, records = phase()
    assert not heatmaps(Suite("s", "S", suite.tables[:3]), records)  # too few places
    suite, records = phase(num_train=128)
    other, further = phase(num_train=64)
    mixed = Suite("s", "S", (*suite.tables, *other.tables))
    assert not heatmaps(mixed, records | further)  # a third option differs


def test_the_map_is_in_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "render", lambda figure, kind: b"<svg></svg>")  # tested in test_figures.py; slow
    suite, records = phase(seeds=1)
    made = dict(report.files(suite, records))
    assert "figures/heatmap-synthav-p_audio-p_visual.svg" in made
    assert "(figures/heatmap-synthav-p_audio-p_visual.svg)" in made["README.md"].decode()
    assert b"Differences over the options of the data" in made["report.html"]
