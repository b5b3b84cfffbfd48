"""Figures and the whole report: right heights, failures in sight, the same bytes twice, a page that stands alone."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import resource
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from benchmarks.config.run_config import configure
from benchmarks.config.suite import Suite
from benchmarks.records.record import RunRecord
from benchmarks.reporting import figures, report
from benchmarks.reporting.curves import curves
from benchmarks.reporting.tables import format_table
from tests.helpers.records import HOSTILE, filled, record, small, stopped

ACCURACIES = [[0.80, 0.82, 0.78], [0.85, 0.83, 0.87], [0.84, 0.84, 0.84]]


@pytest.fixture(scope="module")
def broken() -> tuple[Suite, dict[str, RunRecord]]:
    """Three rows: one in order, one with a hostile name and a missing run, one that diverged for a hostile reason."""
    suite = small(("vanilla", HOSTILE, "ogm"))
    records = filled(suite, ACCURACIES)
    del records[suite.tables[0].rows[1].configs[0].key]
    bad = suite.tables[0].rows[2].configs[1]
    records[bad.key] = stopped(bad, "diverged", f"<script>alert(1)</script> {HOSTILE}")
    return suite, records


@pytest.fixture(scope="module")
def written(broken: tuple[Suite, dict[str, RunRecord]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    suite, records = broken
    folder = tmp_path_factory.mktemp("results")
    for r in [*records.values(), record(configure({"method": "weak_boost", "seed": 77}))]:
        r.save(folder)
    report.write(suite, folder)
    return folder


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


# ---- figures


def test_points_stand_at_the_means() -> None:
    suite = small(("vanilla", "ogm_ge", "ogm"))
    axes = figures.accuracies(format_table(suite.tables[0], filled(suite, ACCURACIES))).figure.axes[0]
    (means,) = (line for line in axes.lines if line.get_marker() == "o" and line.get_color() == figures.INK)
    assert list(means.get_xdata()) == pytest.approx([79, 84, 83])
    ends = [segment[:, 0] for segment in axes.collections[1].get_segments()]
    assert np.ptp(ends, axis=1) == pytest.approx([4, 4, 0])  # ± one std
    low, high = axes.get_xlim()
    assert 20 < low < 40 and 84 < high < 90  # around what is shown, not from zero
    probe = next(line for line in axes.lines if line.get_marker() == "^" and line.get_markerfacecolor() != "white")
    assert list(probe.get_xdata()) == pytest.approx([60, 65, 64])
    assert "84.0 ± 2.0" in texts(axes.figure)


def test_ranks_stand_with_their_intervals_and_groups(tmp_path: Path) -> None:
    suite = small(("vanilla", "ogm_ge"), seeds=8)
    gain = [0.05, 0.04, -0.01, 0.06, 0.02, 0.03, 0.04, 0.05]
    records = filled(suite, [[0.7] * 8, [0.7 + x for x in gain]])
    suite = dataclasses.replace(suite, tables=(dataclasses.replace(suite.tables[0], ranked=True),))
    (axes,) = figures.ranks(format_table(suite.tables[0], records)).figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ogm_ge", "vanilla"]
    (means,) = (line for line in axes.lines if line.get_marker() == "o")
    assert list(means.get_xdata()) == [1.125, 1.875]
    low, high = axes.collections[1].get_segments()[0][:, 0]
    assert 1 <= low < 1.125 < high < 1.5
    written = dict(report.files(suite, records))
    assert "figures/table2-synthav-ranks.svg" in written and b"mean ranks" in written["report.html"]


def test_what_has_no_mean_says_why(broken: tuple[Suite, dict[str, RunRecord]]) -> None:
    suite, records = broken
    made = format_table(suite.tables[0], records)
    found = texts(figures.accuracies(made).figure)
    assert "diverged 1/3" in found
    assert "missing 1/3" in found
    assert HOSTILE in found
    in_legend = texts(curves(made, records).figure)
    assert "ogm: On-the-fly Gradient Modulation (diverged 1/3)" in in_legend
    assert f"{HOSTILE} (missing 1/3)" in in_legend


def test_labels_are_words_not_commands() -> None:
    suite = small(("_hidden", r"$\frac{1}{0}$"))
    records = filled(suite, ACCURACIES[:2])
    made = format_table(suite.tables[0], records)
    for figure in (figures.accuracies(made).figure, curves(made, records).figure):
        assert {"_hidden", r"$\frac{1}{0}$"} <= set(texts(figure))
        figures.render(figure, "svg")


# ---- the report


def test_everything_is_there_and_whole(written: Path) -> None:
    names = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()} - {
        str(path.relative_to(written)) for path in (written / "records").rglob("*")
    }
    slug = "table2-synthav"
    assert names == {
        "runs.csv",
        "README.md",
        "report.html",
        *(f"tables/{slug}.{kind}" for kind in ("csv", "md", "tex")),
        *(f"figures/{slug}-{what}.{kind}" for what in ("accuracies", "curves") for kind in ("svg", "pdf")),
    }
    for path in (written / "figures").glob("*.svg"):
        ElementTree.parse(path)
    for path in (written / "figures").glob("*.pdf"):
        assert path.read_bytes().startswith(b"%PDF")


def test_other_records_are_in_runs_csv_alone(written: Path) -> None:
    assert "weak_boost" in (written / "runs.csv").read_text()
    assert "weak_boost" not in (written / "README.md").read_text()


def test_the_readme_shows_pictures_and_lists_what_has_no_result(written: Path) -> None:
    text = (written / "README.md").read_text()
    for picture in re.findall(r"!\[[^]]*\]\(([^)]*)\)", text):
        assert (written / picture).exists()
    assert "9 runs (7 done, 1 diverged, 1 missing)" in text
    assert "seed 1: diverged: \\<script\\>" in text
    assert "seed 0: missing: there is no record of it" in text


class Page(HTMLParser):
    """Collects what a browser would see: text, tags, ids, references."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href"):
                self.references.append(value or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_stands_alone_and_escapes_everything(written: Path) -> None:
    html = (written / "report.html").read_text()
    page = Page(html)
    assert HOSTILE in page.texts
    assert any("<script>alert(1)</script>" in text for text in page.texts)
    assert page.tags.count("script") == 3  # our own: the data, the libraries, the program; see test_page.py
    assert not {"img", "link", "iframe", "e"} & set(page.tags)
    assert page.references
    assert all(ref.startswith("#") for ref in page.references)
    assert {ref[1:] for ref in page.references} <= set(page.ids)
    assert not re.search(r"url\((?!#)|@import", html.partition("<script")[0])
    assert page.tags.count("svg") == 2
    shared_drawings = {i for i in page.ids if page.ids.count(i) > 1}
    for drawing in shared_drawings:  # a letter that both figures use: the same definition twice
        assert len(set(re.findall(rf'<path id="{re.escape(drawing)}"[^>]*>', html))) == 1


def test_quick_is_marked_on_the_page_and_in_the_readme() -> None:
    suite = dataclasses.replace(small(), quick=True)
    made = dict(report.files(suite, filled(suite, ACCURACIES[:2])))
    for name in ("README.md", "report.html", "tables/table2-synthav.md", "tables/table2-synthav.tex"):
        assert b"QUICK: shortened, not comparable" in made[name]
        assert b"rank nothing" in made[name] and b"difference to vanilla" not in made[name]
    assert b"True,table2" in made["tables/table2-synthav.csv"]


def test_the_same_records_make_the_same_bytes_in_another_process(
    written: Path, broken: tuple[Suite, dict[str, RunRecord]]
) -> None:
    """In another order, with other hashes: what depends on either would differ."""
    code = (
        "import sys, hashlib; from pathlib import Path; from benchmarks.reporting import report\n"
        "from benchmarks.records.store import read_records; from tests.helpers.records import HOSTILE, small\n"
        "records = {r.key: r for r in reversed(list(read_records(Path(sys.argv[1]))))}\n"
        "for name, content in report.files(small(('vanilla', HOSTILE, 'ogm')), records):\n"
        "    print(hashlib.sha256(content).hexdigest(), name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(written)],
        env={**os.environ, "PYTHONHASHSEED": "123"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert len(lines) == 10
    for digest, name in lines:
        assert hashlib.sha256((written / name).read_bytes()).hexdigest() == digest, name


def test_a_damaged_record_stops_the_report_before_it_writes(tmp_path: Path) -> None:
    suite = small()
    path = next(iter(filled(suite, ACCURACIES[:2]).values())).save(tmp_path)
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match="is not a whole record"):
        report.write(suite, tmp_path)
    assert not list(tmp_path.glob("*.*"))


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    suite = small()
    for r in filled(suite, ACCURACIES[:2]).values():
        r.save(tmp_path)
    picture = tmp_path / "figures" / "table2-synthav-accuracies.svg"
    picture.parent.mkdir()
    picture.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # no file may be longer: as on a full disk
    try:
        with pytest.raises(OSError):
            report.write(suite, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert picture.read_text() == "old"
    assert not list(tmp_path.rglob("*.part"))
