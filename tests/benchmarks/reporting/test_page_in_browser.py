"""The page in a real Chromium: sorted, filtered, opened, copied; hostile names inert, nothing loaded, no error."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.config.run_config import configure
from benchmarks.config.suite import Row, Suite, Table
from benchmarks.records.record import RunRecord
from benchmarks.reporting.page import asset, page
from benchmarks.reporting.page_data import Chapter
from benchmarks.reporting.tables import format_tables
from ogm.registry import STRATEGIES
from tests.helpers.browser import PROGRAM, Browser
from tests.helpers.records import HOSTILE, record, stopped

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium")

EVIL = f"=<img src=x onerror=window.hit=1> <script>window.hit=1</script> {HOSTILE}"
DATA = ("synthav", "avmnist", "grid", "crema_d", "mfeat")
TOP = {"vanilla": 0.70, "ogm_ge": 0.75, "mla": 0.80, EVIL: 0.72}


def suite_of(labels: dict[str, tuple[str, float]], dataset: str, seeds: int, epochs: int) -> tuple[Suite, Any]:
    """A ranked table: label -> (method, accuracy); and its records."""
    rows, records = [], {}
    for label, (method, top) in labels.items():
        given = {"method": method, "dataset": dataset, "epochs": epochs}
        extra = {"lr": 0.0123} if label != method else {}  # or it would be the same run
        configs = tuple(configure({**given, **extra, "seed": s, **drawn(dataset, s)}) for s in range(seeds))
        rows.append(Row(label, configs, None if label == "vanilla" else "vanilla"))
        for seed, config in enumerate(configs):
            wobble = 0.01 * ((seed + len(label)) % 4 - 1.5)  # nothing, on average over 8 seeds
            records[config.key] = record(config, top + wobble)
    table = Table("compare", f"{len(rows)} ways on {dataset}", dataset, dataset, tuple(rows), ranked=True)
    return Suite("compare", f"Ways on {dataset}", (table,)), records


def drawn(dataset: str, seed: int) -> dict[str, Any]:
    return {"dataset_args": {"data_seed": seed}} if dataset == "synthav" else {}


def chapter(suite: Suite, records: dict[str, RunRecord]) -> Chapter:
    return Chapter(suite, "all done.", format_tables(suite.tables, records), records, [])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets; a hostile name in every place that takes one, and a row that diverged for a hostile reason."""
    methods = {"vanilla": "vanilla", "ogm_ge": "ogm_ge", "mla": "mla", EVIL: "ogm"}
    labels = {label: (methods[label], top) for label, top in TOP.items()}
    suite, records = suite_of(labels, "synthav", 8, 6)
    hostile = {}
    for key, r in records.items():  # a modality of a hostile name
        test = {s: {**t, f"accuracy/{EVIL}": 0.5} for s, t in r.test.items()}
        hostile[key] = dataclasses.replace(r, test=test, provenance={**r.provenance, "device": EVIL})
    broken = Row("broken", tuple(c.model_copy(update={"lr": 0.9}) for c in suite.tables[0].rows[0].configs), "vanilla")
    hostile |= {c.key: stopped(c, "skipped", EVIL) for c in broken.configs}
    table = dataclasses.replace(
        suite.tables[0], rows=(*suite.tables[0].rows, broken), title=f"Ways {EVIL}", name=f"compare {EVIL}"
    )
    suite = dataclasses.replace(suite, tables=(table,), title=f"Suite {EVIL}")
    second, others = suite_of({label: labels[label] for label in ("vanilla", "mla")}, "avmnist", 3, 6)
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page(f"Results {EVIL}", [chapter(suite, hostile), chapter(second, others)], {}), encoding="utf-8")
    return path


def choose(browser: Browser, control: str, value: str) -> None:
    browser.run(
        f"(() => {{ const c = document.getElementById({json.dumps(control)}); c.value = {json.dumps(value)};"
        "c.dispatchEvent(new Event('change')); c.dispatchEvent(new Event('input')) })()"
    )
    assert browser.run(f"document.getElementById({json.dumps(control)}).value") == value


def column(browser: Browser, title: str) -> list[str]:
    """The texts of a column, from top to bottom, as they are seen."""
    return browser.run(
        "(() => { const heads = [...document.querySelectorAll('#grid .tabulator-col')];"
        f"const head = heads.find((h) => h.textContent.trim() === {json.dumps(title)});"
        "const field = head?.getAttribute('tabulator-field');"
        "return [...document.querySelectorAll('#grid .tabulator-row')].map((row) => [...row.children].find("
        "(c) => c.getAttribute('tabulator-field') === field && c.offsetWidth)?.textContent) })()"
    )


def settings(browser: Browser) -> list[str]:
    return column(browser, "setting")


def test_smoke(browser: Browser, written: Path) -> None:
    """All rows are there; nothing hostile ran, nothing was loaded, no error, and no other script may run."""
    browser.open(written)
    assert browser.run("document.documentElement.className") == "interactive"
    assert settings(browser)[:2] == ["mla", "ogm_ge"]
    ranking = [
        list(row) for row in zip(*(column(browser, x) for x in ("setting", "mean rank", "data sets")), strict=True)
    ]
    cells = "(r) => [...r.children].slice(0, 3).map((c) => c.textContent)"
    plain = f"[...document.querySelectorAll('#across tbody tr')].map({cells})"
    assert ranking == browser.run(plain) and ranking[0] == ["mla", "1.0", "2"]  # the same as Python's
    choose(browser, "data", "synthav")
    assert settings(browser) == ["mla", "ogm_ge", EVIL, "vanilla", "broken"]
    assert "refused" in column(browser, "accuracy (%)")[-1]
    for name in settings(browser):
        browser.run(
            f"[...document.querySelectorAll('button.open')].find((b) => b.textContent === {json.dumps(name)}).click()"
        )
        assert browser.run("document.getElementById('method').open")
        browser.press("Escape")
        assert not browser.run("document.getElementById('method').open")
    assert browser.run("document.querySelectorAll('img, e, iframe, [onerror]').length") == 0
    assert browser.run("window.hit") is None
    assert browser.asked == [written.resolve().as_uri()] and browser.problems == []
    browser.run(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hit = 2'}))"
    )
    assert browser.run("window.hit") is None and "Content Security Policy" in str(browser.problems)


def test_the_numbers_are_those_of_the_plain_table(browser: Browser, written: Path) -> None:
    browser.open(written)
    choose(browser, "data", "synthav")
    table = "document.querySelector('section.table:not([hidden]) table')"
    heads = browser.run(f"[...{table}.querySelectorAll('th[scope=col]')].map((c) => c.textContent)")
    rows = browser.run(f"[...{table}.tBodies[0].rows].map((r) => [...r.children].map((c) => c.textContent))")
    called = {"accuracy (by validation)": "accuracy (%)", "passes": "cost"}
    for i, head in enumerate(heads):
        if not head.endswith("probe") and head != "runs":  # not shown at first
            assert column(browser, called.get(head, head)) == [row[i] for row in rows], head


def test_halves_are_rounded_as_python_does(browser: Browser, written: Path) -> None:
    browser.open(written)
    assert browser.run("typeof number") == "undefined"  # our program leaves no globals
    text = asset("model.js")
    function = text[text.index("function fixed") :].split("\n}\n")[0] + "}"
    numbers = [84.25, 84.75, 84.15, 84.35, 0.25, 0.05, 12.0, 99.95, 3.0625, 2.5]
    for digits in (1, 3):
        found = browser.run(f"(() => {{ {function}; return {numbers}.map((x) => fixed(x, {digits})) }})()")
        assert found == [f"{x:.{digits}f}" for x in numbers]


def test_sorted_by_click_and_by_key(browser: Browser, written: Path) -> None:
    browser.open(written)
    choose(browser, "data", "synthav")
    heading = (
        "[...document.querySelectorAll('#grid .tabulator-col')].find((h) => h.textContent.trim() === 'accuracy (%)')"
    )
    browser.run(f"{heading}.querySelector('.tabulator-col-content').click()")
    assert settings(browser) == ["mla", "ogm_ge", EVIL, "vanilla", "broken"]
    assert browser.run(f"{heading}.getAttribute('aria-sort')") == "descending"
    browser.run(f"{heading}.focus()")
    browser.press("Enter")
    assert settings(browser) == ["vanilla", EVIL, "ogm_ge", "mla", "broken"]  # what has no number stays at the end
    assert browser.run(f"{heading}.getAttribute('aria-sort')") == "ascending"
    assert browser.problems == []


def test_filtered_by_name_kind_cost_and_modalities(browser: Browser, written: Path) -> None:
    browser.open(written)
    choose(browser, "data", "synthav")
    choose(browser, "name", "ML")
    assert settings(browser) == ["mla"]
    assert browser.run("document.getElementById('count').textContent") == "1 of 5 settings"
    choose(browser, "name", "")
    choose(browser, "category", "baseline")
    assert settings(browser) == ["vanilla", "broken"]
    choose(browser, "category", "")
    choose(browser, "modalities", "3")
    kept = settings(browser)
    assert "vanilla" in kept
    choose(browser, "modalities", "")
    choose(browser, "cost", browser.run("document.getElementById('cost').options[1].value"))
    assert "vanilla" in settings(browser) and len(settings(browser)) < 5
    assert browser.problems == []


def test_another_metric_epoch_and_rule(browser: Browser, written: Path) -> None:
    browser.open(written)
    choose(browser, "data", "synthav")
    before = column(browser, "accuracy (%)")[0]
    choose(browser, "selection", "last")
    assert column(browser, "accuracy (%)")[0] != before
    choose(browser, "selection", "test_best")
    assert "flatters" in browser.run("document.getElementById('warning').textContent")
    choose(browser, "selection", "val_best")
    choose(browser, "measure", "macro_f1")
    assert column(browser, "macro-F1 (%)")[0].startswith("78.0")
    choose(browser, "measure", "accuracy")
    choose(browser, "rule", "branch/audio")
    assert column(browser, "accuracy (%)")[0].startswith("70.0")
    assert not browser.run("document.getElementById('shown').textContent.includes('null')")
    assert browser.problems == []


def test_columns_go_and_come(browser: Browser, written: Path) -> None:
    browser.open(written)
    choose(browser, "data", "synthav")
    box = "[...document.querySelectorAll('#columns label')].find((l) => l.textContent.trim() === 'wins').firstChild"
    assert column(browser, "wins")[0] == "8/8"
    browser.run(f"{box}.click()")
    assert column(browser, "wins")[0] is None
    choose(browser, "selection", "last")  # it stays off in another view
    assert column(browser, "wins")[0] is None
    browser.run(f"{box}.click()")
    assert column(browser, "wins")[0] == "8/8"
    assert browser.problems == []


def copied(browser: Browser, format: str) -> str:
    """What a click on the button puts on the clipboard, which headless Chromium has to be allowed to."""
    browser.do("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.do("Page.bringToFront")
    browser.run(f"document.getElementById('copy-{format}').click()")
    return browser.run("new Promise((done) => setTimeout(() => done(navigator.clipboard.readText()), 100))")


def test_copied_as_shown(browser: Browser, written: Path) -> None:
    browser.open(written)
    choose(browser, "data", "synthav")
    choose(browser, "name", "a")
    shown = settings(browser)
    latex = copied(browser, "LaTeX")
    assert latex.count("\\\\\n") == len(shown) + 1 and "\\toprule" in latex and "$\\pm$" in latex
    assert "\\_c \\%d \\textless{}e\\textgreater{}" in latex
    markdown = copied(browser, "Markdown").splitlines()
    assert len(markdown) == len(shown) + 2 and markdown[0].startswith("| setting | rank | accuracy (%) |")
    assert "\\<script\\>" in "\n".join(markdown)
    csv = copied(browser, "CSV").splitlines()
    assert csv[0].startswith("setting,rank,mean,std,state,") and len(csv) == len(shown) + 1
    assert csv[1].startswith("mla,1,79,")
    assert any(line.startswith("\"'=<img") for line in csv)  # no formula
    assert "on the clipboard as CSV" in browser.run("document.getElementById('copied').textContent")
    assert browser.problems == []


def test_without_a_clipboard_there_is_a_field(browser: Browser, written: Path) -> None:
    browser.open(written)
    browser.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    browser.run("document.getElementById('copy-Markdown').click()")
    field = browser.run("(({hidden, value}) => [hidden, value])(document.getElementById('copy-text'))")
    assert field[0] is False and field[1].startswith("| setting |")


def test_a_row_opens_its_method(browser: Browser, written: Path) -> None:
    browser.open(written)
    choose(browser, "data", "synthav")
    browser.run("document.querySelectorAll('button.open')[1].focus()")
    browser.press("Enter")
    text = browser.run("document.getElementById('method').innerText")
    for words in ("ogm_ge", "On-the-fly Gradient Modulation", "Differences", "Results", "Provenance", "0123abc"):
        assert words in text
    assert "8/8" in text and "Course of training" in text
    assert browser.run("document.querySelectorAll('#method canvas').length") == 1
    label = browser.run("document.querySelector('#method canvas').getAttribute('aria-label')")
    assert label.startswith("test: accuracy (%) over the epochs: ogm_ge from ") and "vanilla" in label
    browser.press("Escape")
    assert browser.run("document.activeElement.textContent") == "ogm_ge"  # the focus is back where it was
    assert browser.problems == []


def test_curves_of_the_chosen_rows(browser: Browser, written: Path) -> None:
    browser.open(written)
    choose(browser, "data", "synthav")
    label = "document.querySelector('#plot canvas').getAttribute('aria-label')"
    assert "mla from" in browser.run(label) and "vanilla from" in browser.run(label)
    browser.run("document.querySelectorAll('#grid input[type=checkbox]')[1].click()")
    assert "ogm_ge from" in browser.run(label)
    choose(browser, "curve", "train/discrepancy_ratio/audio")
    assert browser.run(label).startswith("train: discrepancy ratio, audio")
    assert browser.run("document.querySelectorAll('#plot .u-legend .edge').length") == 2 * 3  # bands
    assert browser.problems == []


def test_without_scripts_the_plain_tables_stand_there(browser: Browser, written: Path) -> None:
    browser.open(written, scripts=False)
    browser.do("Emulation.setScriptExecutionDisabled", value=False)
    seen = "[...document.querySelectorAll('.plain table')].filter((t) => t.offsetHeight > 0).length"
    assert browser.run(seen) == 3 and browser.run("document.getElementById('explorer').offsetHeight") == 0


@pytest.mark.parametrize("width", [400, 900, 1600])
def test_no_width_scrolls_the_page(browser: Browser, written: Path, width: int) -> None:
    for dark in (False, True):
        browser.open(written, width=width, dark=dark)
        choose(browser, "data", "synthav")
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        colours = "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
        ink, back = (int(re.findall(r"\d+", colour)[0]) for colour in browser.run(colours))
        assert (ink - back > 150) if dark else (back - ink > 150)
    assert browser.problems == []


def test_a_link_to_a_table_chooses_it(browser: Browser, written: Path) -> None:
    browser.open(written)
    name = browser.run("[...document.querySelectorAll('section.table')].at(-1).id")
    browser.do("Page.navigate", url=f"{written.resolve().as_uri()}#{name}")
    browser.run("location.reload()")
    browser.wait()
    assert browser.run("document.getElementById('table').value") == name
    assert browser.problems == []


def test_a_suite_without_any_record_says_so(browser: Browser, tmp_path: Path) -> None:
    suite, _ = suite_of({"vanilla": ("vanilla", 0.7), "unknown": ("ogm", 0.7)}, "synthav", 2, 4)
    path = tmp_path / "empty.html"
    path.write_text(page("Nothing yet", [chapter(suite, {})], {}), encoding="utf-8")
    browser.open(path)
    assert column(browser, "accuracy (%)") == ["missing 2/2", "missing 2/2"]
    assert "undefined" not in browser.run("document.body.innerText") and browser.problems == []


def test_printed_whole(browser: Browser, written: Path) -> None:
    browser.open(written)
    choose(browser, "data", "synthav")
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    browser.do("Emulation.setEmulatedMedia", media="print")
    assert browser.run("document.querySelectorAll('#print tbody tr').length") == 5
    assert browser.run("document.getElementById('print').offsetHeight > 0")
    assert browser.run("document.getElementById('explorer').offsetHeight") == 0
    assert browser.run("document.querySelector('#print td').textContent") == "mla"
    browser.do("Emulation.setEmulatedMedia", media="")


def test_roles_for_screen_readers(browser: Browser, written: Path) -> None:
    browser.open(written)
    choose(browser, "data", "synthav")
    nodes = browser.do("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in nodes if not node["ignored"]]
    assert {"table", "row", "columnheader", "cell", "button", "combobox", "status"} <= set(roles)
    unnamed = [
        node["role"]["value"]
        for node in nodes
        if not node["ignored"]
        and node["role"]["value"] in ("button", "combobox", "checkbox", "searchbox", "image")
        and not node.get("name", {}).get("value")
    ]
    assert unnamed == []


@pytest.mark.long
def test_sixty_methods_on_five_data_sets_are_small_and_fast(
    browser: Browser, tmp_path: Path, record_property: Any
) -> None:
    names = [name for name in STRATEGIES if name != "vanilla"]
    methods = {f"{name} {'again' * turn}".strip(): name for turn in range(2) for name in names}
    chapters = []
    for dataset in DATA:
        labels = {label: (name, 0.5 + i / 200) for i, (label, name) in enumerate([*methods.items()][:59])}
        chapters.append(chapter(*suite_of({"vanilla": ("vanilla", 0.6), **labels}, dataset, 5, 40)))
    path = tmp_path / "page.html"
    path.write_text(page("Sixty on five", chapters, {}), encoding="utf-8")
    assert path.stat().st_size < 5e6
    browser.do("Performance.enable", timeDomain="threadTicks")
    before = busy(browser)
    browser.open(path)
    seconds = busy(browser) - before
    paint = browser.run("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    record_property("megabytes", path.stat().st_size / 1e6)
    record_property("seconds of the page's thread until all stands there", seconds)
    record_property("first paint, ms, on whatever else the machine does", paint)
    assert 0 < seconds < 1
    assert len(settings(browser)) == 60 and browser.problems == []


def busy(browser: Browser) -> float:
    """Seconds that the page's thread has computed: unlike a wall clock it does not count other processes."""
    found = {metric["name"]: metric["value"] for metric in browser.do("Performance.getMetrics")["metrics"]}
    return float(found["TaskDuration"])
