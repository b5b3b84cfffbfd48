"""Records to tables: known numbers become known cells, what failed is shown, and any text survives any format."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import re
import shutil
import warnings
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from benchmarks.config.run_config import configure
from benchmarks.config.suite import Row, Suite, Table, load
from benchmarks.records.record import RunRecord
from benchmarks.reporting import tables
from benchmarks.reporting.frames import table_frame
from benchmarks.reporting.published import PUBLISHED, read_published
from benchmarks.reporting.runs import runs_frame
from benchmarks.reporting.statistics import units_needed
from benchmarks.reporting.tables import ACCURACY, EMPTY, escape_latex, escape_markdown, format_table, format_tables
from tests.helpers.records import HOSTILE, filled, record, small, stopped
from tests.helpers.shared_media import shared

VANILLA, OGM_GE = [0.80, 0.82, 0.78], [0.85, 0.83, 0.87]


def cells(suite: Suite, records: dict[str, RunRecord]) -> dict[str, dict[str, str]]:
    return {row["setting"]: row for row in format_table(suite.tables[0], records).cells.to_dict("records")}


def test_known_numbers_make_known_cells() -> None:
    suite = small()
    row = cells(suite, filled(suite, [VANILLA, OGM_GE]))["ogm_ge"]
    assert row["runs"] == "3/3"
    assert row[ACCURACY] == "84.0 ± 2.0"
    assert row["audio branch"] == "75.0 ± 2.0"
    assert row["visual probe"] == "65.0 ± 2.0"
    assert row["difference to vanilla"] == "+5.0 (+1.0 to +9.0)"  # differences 5, 1, 9: too few for an interval
    assert row["wins"] == "3/3"
    assert "p (Holm)" not in row
    numbers = table_frame(suite.tables[0], filled(suite, [VANILLA, OGM_GE])).set_index("row").loc["ogm_ge"]
    assert (numbers["last_mean"], numbers["test_best_mean"]) == pytest.approx((85, 87))
    assert (numbers["units"], numbers["pairs"], numbers["improvement"]) == (3, 3, 1)


def test_five_units_have_an_interval_and_six_a_test() -> None:
    differences = [0.05, 0.01, 0.09, 0.03, 0.07, 0.05]
    for n, p in ((5, None), (6, "0.031")):
        suite = small(seeds=n)
        made = format_table(suite.tables[0], filled(suite, [[0.7] * n, [0.7 + d for d in differences[:n]]]))
        row = made.cells.set_index("setting").loc["ogm_ge"]
        # of five: mean 5, std 3.162, t(.975, 4) = 2.7764, half width 2.7764 x 3.162 / sqrt(5) = 3.93
        assert row["difference to vanilla"] == {5: "+5.0 [+1.1, +8.9]", 6: "+5.0 [+2.0, +8.0]"}[n]
        assert row.get("p (Holm)") == p
        assert ("Student's t over units" in dict(made.notes)["Difference"]) and "No interval" not in str(made.notes)


def test_runs_on_the_same_data_are_one_unit() -> None:
    """However many training seeds there are: mean and range, no interval, no test."""
    suite = small(seeds=8, drawn=False)
    made = format_table(
        dataclasses.replace(suite.tables[0], ranked=True), filled(suite, [[0.7] * 8, [0.75, *[0.74] * 7]])
    )
    row = made.cells.set_index("setting").loc["ogm_ge"]
    assert row["difference to vanilla"] == "+4.1 (+4.0 to +5.0)" and row["wins"] == "8/8"
    assert not {"p (Holm)", "mean rank"} & set(made.cells)
    notes = dict(made.notes)
    assert "there is one" in notes["Unit"] and "one unit cannot tell" in notes["Difference"]


def test_runs_of_a_unit_are_averaged_first() -> None:
    """Six data seeds with two training seeds each: the test counts six."""
    rows = [
        Row(
            method,
            tuple(
                configure({"method": method, "seed": s, "dataset_args.data_seed": d, "epochs": 4})
                for s in range(2)
                for d in range(6)
            ),
            against,
        )
        for method, against in (("vanilla", None), ("ogm_ge", "vanilla"))
    ]
    suite = Suite("small", "", (Table("table2", "Strategies", "synthav", "SynthAV", tuple(rows)),))
    gains = [[0.02] * 6, [0.04] * 6]
    records = filled(suite, [[0.7] * 12, [0.7 + x for seed in gains for x in seed]])
    numbers = table_frame(suite.tables[0], records).set_index("row").loc["ogm_ge"]
    assert (numbers["units"], numbers["pairs"], numbers["wins"], numbers["p"]) == (6, 6, 6, 2 / 2**6)
    assert numbers["difference_mean"] == pytest.approx(3) and numbers["difference_std"] == pytest.approx(0, abs=1e-9)


def test_a_ranking_over_many_units_has_intervals_and_groups() -> None:
    suite = small(("vanilla", "ogm_ge", "ogm"), seeds=12)
    steps = [i / 500 for i in range(12)]
    numbers = [
        [0.6 + x for x in steps],
        [0.8 + x for x in steps],
        [0.8 + x + 0.01 * (-1) ** i for i, x in enumerate(steps)],
    ]
    made = format_table(dataclasses.replace(suite.tables[0], ranked=True), filled(suite, numbers))
    cells = made.cells.set_index("setting")
    assert cells["group"].to_dict() == {"vanilla": "b", "ogm_ge": "a", "ogm": "a"}
    assert cells.loc["vanilla", "mean rank"] == "3.0 [3.0, 3.0]" and "[" in cells.loc["ogm", "mean rank"]
    assert "share a letter cannot be told apart" in dict(made.notes)["Rank"]


def test_a_method_that_does_nothing_is_named() -> None:
    suite = small(("vanilla", "ogm_ge", "ogm"))
    records = filled(suite, [VANILLA, VANILLA, OGM_GE])
    assert dict(format_table(suite.tables[0], records).notes)["No effect"].startswith("ogm_ge: the same numbers")
    assert "No effect" not in dict(format_table(suite.tables[0], filled(suite, [VANILLA, OGM_GE, OGM_GE])).notes)


def test_too_few_units_say_how_many_it_would_take() -> None:
    suite = small()
    note = dict(format_table(suite.tables[0], filled(suite, [VANILLA, OGM_GE])).notes)["Difference"]
    assert "by 4.0 points between units" in note
    assert f"{units_needed(4.0)} units find a difference of 1 point with 80 % power" in note
    assert "No p-value: with 3 units none below 0.05 could be had" in note


def test_one_run_shows_no_spread() -> None:
    suite = small(seeds=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = cells(suite, filled(suite, [[0.8], [0.84]]))["ogm_ge"]
    assert row[ACCURACY] == "83.0"
    assert row["difference to vanilla"] == "+4.0"
    assert row["wins"] == "1/1"
    assert "nan" not in tables.to_markdown(format_table(suite.tables[0], filled(suite, [[0.8], [0.84]]))).lower()


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_a_run_without_result_is_shown_not_averaged(status: str) -> None:
    suite = small()
    records = filled(suite, [VANILLA, OGM_GE])
    bad = suite.tables[0].rows[1].configs[1]
    records[bad.key] = stopped(bad, status, "the loss was not finite at step 7")
    row = cells(suite, records)["ogm_ge"]
    assert row[ACCURACY] == f"{status} 1/3"
    assert row["runs"] == "2/3"
    assert {v for k, v in row.items() if k not in ("setting", "runs", ACCURACY)} == {EMPTY}
    frame = table_frame(suite.tables[0], records).set_index("row")
    assert frame.loc["ogm_ge"].filter(regex="_mean$").isna().all()
    assert runs_frame(list(records.values())).query("status == 'done'")["key"].nunique() == 5


def test_missing_and_refused_runs_say_so() -> None:
    suite = small(("vanilla", "ogm_ge", "ogm"))
    records = filled(suite, [VANILLA, OGM_GE, OGM_GE])
    del records[suite.tables[0].rows[1].configs[0].key]
    for config in suite.tables[0].rows[2].configs:
        records[config.key] = stopped(config, "skipped", "it needs two heads")
    found = cells(suite, records)
    assert found["ogm_ge"][ACCURACY] == "missing 1/3"
    assert found["ogm"][ACCURACY] == "refused: it needs two heads"
    assert found["vanilla"][ACCURACY] == "79.0 ± 2.0"


def test_nothing_is_compared_with_an_incomplete_row() -> None:
    suite = small()
    records = filled(suite, [VANILLA, OGM_GE])
    del records[suite.tables[0].rows[0].configs[2].key]
    row = cells(suite, records)["ogm_ge"]
    assert row[ACCURACY] == "84.0 ± 2.0"
    assert row["difference to vanilla"] == "vanilla is incomplete"


def test_pairs_are_made_by_seed_whatever_the_order_of_records() -> None:
    suite = small()
    paired = filled(suite, [[0.5, 0.7, 0.9], [0.6, 0.8, 1.0]])  # +10 each: no spread at all if paired by seed
    shuffled = dict(sorted(paired.items(), key=lambda kv: hash(kv[0][::-1]) % 7, reverse=True))
    assert cells(suite, shuffled)["ogm_ge"]["difference to vanilla"] == "+10.0 (+10.0 to +10.0)"
    crossed = filled(suite, [[0.5, 0.7, 0.9], [1.0, 0.8, 0.6]])
    assert cells(suite, crossed)["ogm_ge"]["difference to vanilla"] != "+10.0 (+10.0 to +10.0)"


def test_rows_that_cannot_be_paired_are_refused() -> None:
    table = small().tables[0]
    first, second = table.rows
    backwards = dataclasses.replace(second, configs=second.configs[::-1])
    with pytest.raises(ValueError, match="do not share their seeds"):
        table_frame(dataclasses.replace(table, rows=(first, backwards)), {})
    with pytest.raises(ValueError, match="'nobody', which is not in its table"):
        table_frame(dataclasses.replace(table, rows=(first, dataclasses.replace(second, against="nobody"))), {})


def test_holm_counts_the_comparisons_of_all_tables() -> None:
    suite = small(("vanilla", "ogm_ge", "ogm"), seeds=7)
    low, high = [0.5 + i / 100 for i in range(7)], [0.6 + i / 50 for i in range(7)]
    records = filled(suite, [low, high, high])
    (alone,) = format_tables(suite.tables, records)
    assert list(alone.numbers["p"][1:]) == [2 / 2**7] * 2
    assert list(alone.numbers["p_holm"][1:]) == [2 * 2 / 2**7] * 2
    other = dataclasses.replace(suite.tables[0], name="table3", rows=suite.tables[0].rows[:2])
    both = format_tables([suite.tables[0], other], records)
    assert [p for made in both for p in made.numbers["p_holm"][1:]] == [3 * 2 / 2**7] * 3


def test_modalities_are_those_of_the_records() -> None:
    suite = small()
    records = filled(suite, [VANILLA, OGM_GE])
    for key, r in records.items():
        test = {s: {**t, "accuracy/text": 0.5} for s, t in r.test.items()}
        records[key] = dataclasses.replace(r, test=test, probe={**r.probe, "text": 0.25})
    row = cells(suite, records)["vanilla"]
    assert row["text branch"] == "50.0 ± 0.0"
    assert row["text probe"] == "25.0 ± 0.0"


def test_ranks_follow_validation_not_the_last_epoch() -> None:
    suite = small(("vanilla", "ogm_ge", "ogm", "ge_noise"), seeds=2)
    records = filled(suite, [[0.8, 0.8], [0.7, 0.7], [0.9, 0.6], [0.99, 0.99]])
    for config in suite.tables[0].rows[1].configs:  # the lowest at the last epoch, the highest by validation
        r = records[config.key]
        test = {**r.test, "val_best": {**r.test["val_best"], "accuracy": 0.95}}
        records[config.key] = dataclasses.replace(r, test=test)
    bad = suite.tables[0].rows[3].configs[0]
    records[bad.key] = stopped(bad, "diverged", "not finite")
    table = dataclasses.replace(suite.tables[0], ranked=True)
    shown = format_table(table, records).cells
    assert list(shown["setting"]) == ["ogm_ge", "vanilla", "ogm", "ge_noise"]
    assert list(shown["rank"]) == ["1", "2", "3", EMPTY]
    assert list(shown["mean rank"]) == ["1.0", "2.5", "2.5", EMPTY]
    assert not [column for column in shown if "time" in column or "seconds" in column]


def test_equal_hits_are_a_tie_whatever_the_order_of_the_sum() -> None:
    """10, 20, 30 hits of 100 in any order: the means of the floats differ in the last bit, the ranks do not."""
    suite = small(("vanilla", "ogm_ge", "ogm"), seeds=3)
    hits = [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.2, 0.3, 0.1 + 2**-56]]  # the last 0.1 as two processes may sum it
    records = filled(suite, hits)
    report = {"test": {"listed": 100, "found": 100}}
    for key, r in records.items():
        test = {s: {**t, "accuracy": r.test["last"]["accuracy"]} for s, t in r.test.items()}
        records[key] = dataclasses.replace(r, test=test, data={**r.data, "report": report})
    assert sum(hits[0]) / 3 != sum(hits[1]) / 3
    frame = table_frame(dataclasses.replace(suite.tables[0], ranked=True), records).set_index("row")
    assert set(frame["rank"]) == {1}
    again = filled(suite, [[0.1] * 3, [0.1 + 2**-56] * 3, [0.2] * 3])
    again = {k: dataclasses.replace(r, data={**r.data, "report": report}) for k, r in again.items()}
    frame = table_frame(dataclasses.replace(suite.tables[0], ranked=True), again).set_index("row")
    assert frame["mean_rank"].to_dict() == {"ogm": 1.0, "vanilla": 2.5, "ogm_ge": 2.5}
    assert (frame.loc["ogm_ge", "wins"], frame.loc["ogm_ge", "difference_mean"]) == (0, 0)
    assert frame.loc["ogm", "wins"] == 3


def test_one_row_per_run_and_selection() -> None:
    done, bad = configure({"method": "ogm_ge", "seed": 1}), configure({"method": "ogm", "seed": 2})
    frame = runs_frame([stopped(bad, "failed", "no space, none"), record(done, 0.8)])
    assert list(frame["status"]) == ["failed", "done", "done", "done"]
    assert list(frame["selection"][1:]) == ["last", "val_best", "test_best"]
    assert list(frame["accuracy"][1:]) == pytest.approx([0.8, 0.79, 0.82])
    assert list(frame["epoch"][1:]) == [19, 18, 17]
    last = frame.iloc[1]
    assert last["probe/audio"] == pytest.approx(0.75)
    assert pd.isna(frame.iloc[2]["probe/audio"])
    assert json.loads(last["method_args"]) == {"alpha": 0.8}
    assert (last["data_seed"], last["data"]) == (0, "train:train0 val:val0 test:test0")
    assert frame.iloc[0][["accuracy", "epoch", "selection", "probe/audio"]].isna().all()
    assert frame.iloc[0]["reason"] == "no space, none"
    read = list(csv.DictReader(io.StringIO(tables.to_csv(frame))))
    assert (read[0]["accuracy"], read[1]["accuracy"], read[1]["epoch"]) == ("", "0.8", "19")
    assert frame.equals(runs_frame([record(done, 0.8), stopped(bad, "failed", "no space, none")]))


def test_notes_say_where_numbers_come_from() -> None:
    suite = small()
    records = filled(suite, [VANILLA, OGM_GE])
    key = suite.tables[0].rows[1].configs[2].key
    report = {"train": {"listed": 10, "found": 8}}
    data = {**records[key].data, "fingerprint": {"train": "another"}, "report": report, "notes": ["adam undoes it"]}
    provenance = {**records[key].provenance, "dirty": True, "commit": "fedcba9", "torch": "2.11.0+cpu"}
    records[key] = dataclasses.replace(records[key], data=data, provenance=provenance)
    notes = dict(format_table(suite.tables[0], records, quick=True).notes)
    assert "train train2, another" in notes["Data"]
    assert "INCOMPLETE: train: 8 of 10" in notes["Data"]
    assert "commit 0123abc, fedcba9" in notes["Made with"]
    assert "uncommitted changes in 1 of 6 runs" in notes["Made with"]
    assert "torch 2.11.0, 2.11.0+cpu" in notes["Made with"]
    assert notes["Seeds"] == "training 0, 1, 2; data 0, 1, 2."
    assert notes["Mind"] == "adam undoes it."
    assert "there are 3" in notes["Unit"]
    assert "flatters" in notes["Selection"]


def test_quick_is_marked_in_every_format() -> None:
    suite = small()
    records = filled(suite, [VANILLA, OGM_GE])
    for quick in (True, False):
        made = format_table(suite.tables[0], records, quick=quick)
        for text in (tables.to_markdown(made), tables.to_latex(made)):
            assert ("QUICK: shortened, not comparable" in text) is quick
        assert {row["quick"] for row in csv.DictReader(io.StringIO(tables.to_csv(made.numbers)))} == {str(quick)}


def test_shortened_runs_rank_nothing() -> None:
    suite = small()
    ranked = dataclasses.replace(suite.tables[0], ranked=True)
    records = filled(suite, [VANILLA, OGM_GE])  # the second row is better in every run
    whole, shortened = (format_table(ranked, records, quick=quick) for quick in (False, True))
    assert {"rank", "wins", "difference to vanilla"} <= set(whole.cells)
    assert list(whole.numbers["row"]) == ["ogm_ge", "vanilla"]
    assert [c for c in shortened.cells if "branch" not in c and "probe" not in c] == ["setting", "runs", ACCURACY]
    assert list(shortened.numbers["row"]) == ["vanilla", "ogm_ge"]
    assert shortened.numbers["difference_mean"].isna().all() and "rank" not in shortened.numbers
    notes = dict(shortened.notes)
    assert "rank nothing" in notes["Quick"] and not {"Difference", "Rank"} & set(notes)


def test_an_empty_folder_makes_a_table_of_missing_runs() -> None:
    suite = small()
    assert {row[ACCURACY] for row in cells(suite, {}).values()} == {"missing 3/3"}
    assert "missing 3/3" in tables.to_latex(format_table(suite.tables[0], {}))


# ---- published numbers


def lines_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_published_numbers_stand_beside_ours() -> None:
    table = next(t for t in load("paper", datasets=["crema_d"]).tables if t.name == "table2")
    records = {c.key: record(c) for row in table.rows for c in row.configs}
    made = format_table(table, records)
    published = dict(zip(made.cells["setting"], made.cells["published"], strict=True))
    assert (published["vanilla"], published["ogm"], published["ogm_ge"]) == ("51.7", "59.0", "61.9")
    assert published["static_lr"] == EMPTY
    words = dict(made.notes)["Published"]
    assert "arXiv 2203.15332" in words
    assert "G-Blending 56.8" in words
    on_ours = format_table(small().tables[0], filled(small(), [VANILLA, OGM_GE]))
    assert "published" not in on_ours.cells
    assert "Published" not in dict(on_ours.notes)


def test_mean_average_precision_stands_beside_accuracy_where_a_paper_prints_it() -> None:
    """In Table 1 of OGM-GE, on the paper's data with the printed numbers, and on other data without them."""
    for dataset, printed_map in (("crema_d", "53.5"), ("synthav", None)):
        by_name = {t.name: t for t in load("paper", datasets=[dataset]).tables}
        records = {c.key: record(c) for row in by_name["table1"].rows for c in row.configs}
        records = {key: dataclasses.replace(r, scores={"test": {"own": {"mAP": 0.625}}}) for key, r in records.items()}
        made = format_table(by_name["table1"], records)
        concat = made.cells.set_index("setting").loc["concat"]
        assert concat["mAP"].startswith("62.5")
        assert concat.get("published mAP") == printed_map
        assert "average precision of each class" in dict(made.notes)["mAP"]
        assert "mAP" not in format_table(by_name["table2"], records).cells


def test_published_rows_are_rows_of_the_suite() -> None:
    lines = lines_of(PUBLISHED)
    places = [(line["table"], line["dataset"], line["row"], line["metric"]) for line in lines]
    assert len(set(places)) == len(places)
    rows = {(t.name, row.label) for t in load("paper", datasets=["crema_d"]).tables for row in t.rows}
    strange = {line["row"] for line in lines if (line["table"], line["row"]) not in rows}
    assert strange == {"Modality-Drop(audio)", "Modality-Drop(visual)", "G-Blending"}


def test_published_numbers_are_those_of_the_reference() -> None:
    names = {"CREMA-D": "crema_d", "Kinetics-Sounds": "kinetics_sounds", "VGGSound": "vggsound"}
    theirs = [
        ("table" + line["source_table"][-1], names[line["dataset"]], line["metric"].lower(), float(line["value"]))
        for line in lines_of(shared("reference", "published_results.csv"))
        if line["source"].startswith("OGM-GE (CVPR 2022") and re.fullmatch("Table [126]", line["source_table"])
    ]
    ours = [
        (line["table"], line["dataset"], line["metric"].lower().replace("accuracy", "acc"), float(line["value"]))
        for line in lines_of(PUBLISHED)
    ]
    assert sorted(ours) == sorted(theirs)


# ---- escaping


def test_markdown_shows_hostile_text_as_it_is() -> None:
    suite = small(("vanilla", HOSTILE))
    records = filled(suite, [VANILLA, OGM_GE])
    bad = suite.tables[0].rows[1].configs[1]
    records[bad.key] = stopped(bad, "skipped", HOSTILE)
    text = tables.to_markdown(format_table(suite.tables[0], records))
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    shown = ["".join(c.content for c in t.children or ()) for t in tokens if t.type == "inline"]
    assert HOSTILE in shown
    assert f"refused 1/3: {HOSTILE}" in shown
    assert not [c for t in tokens for c in t.children or () if c.type in ("html_inline", "em_open", "code_inline")]


def test_markdown_keeps_plain_names_legible() -> None:
    assert escape_markdown("concat + ogm_ge") == "concat + ogm_ge"
    assert escape_markdown("_x_\n# y") == r"\_x\_ \# y"


def test_latex_shows_hostile_text_as_it_is() -> None:
    assert escape_latex(r"50% of a_b & {c} <d> #1 $x ~ ^ \e") == (
        r"50\% of a\_b \& \{c\} \textless{}d\textgreater{} \#1 \$x \textasciitilde{} \textasciicircum{} "
        r"\textbackslash{}e"
    )
    suite = small(("vanilla", HOSTILE))
    made = format_table(suite.tables[0], filled(suite, [VANILLA, OGM_GE]))
    text = tables.to_latex(made)
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    assert len(body) == 2
    for line in body:
        assert len(re.findall(r"(?<!\\)&", line)) == len(made.cells.columns) - 1
        assert line.endswith(r"\\")
        ours = re.sub(r"\$(-|\\pm)\$|\\[&%$#_{}]|\\text[a-z]+\{\}", "", line)
        assert not set(ours) & set('%#_$~^<>|"')
    assert escape_latex(HOSTILE) in text


def test_latex_stretches_a_reason_over_the_cells_it_empties() -> None:
    suite = small()
    records = filled(suite, [VANILLA, OGM_GE])
    bad = suite.tables[0].rows[1].configs[1]
    records[bad.key] = stopped(bad, "diverged", "not finite")
    made = format_table(suite.tables[0], records)
    line = next(line for line in tables.to_latex(made).splitlines() if line.startswith(r"ogm\_ge"))
    span = len(made.cells.columns) - 2
    assert line == rf"ogm\_ge & 2/3 & \multicolumn{{{span}}}{{l}}{{\emph{{diverged 1/3}}}} \\"


def test_the_same_records_make_the_same_bytes() -> None:
    suite = small()
    records = filled(suite, [VANILLA, OGM_GE])
    again = dict(reversed(records.items()))
    for write in (tables.to_markdown, tables.to_latex, lambda made: tables.to_csv(made.numbers)):
        assert write(format_table(suite.tables[0], records)) == write(format_table(suite.tables[0], again))


def test_a_row_may_be_compared_with_another_in_each_line() -> None:
    table: Table = small(("vanilla", "ogm_ge", "ogm")).tables[0]
    rows = (*table.rows[:2], Row("ogm", table.rows[2].configs, "ogm_ge"))
    suite = Suite("small", "", (dataclasses.replace(table, rows=rows),))
    found = cells(suite, filled(suite, [VANILLA, OGM_GE, VANILLA]))
    assert [row["compared with"] for row in found.values()] == [EMPTY, "vanilla", "ogm_ge"]
    assert found["ogm"]["difference"] == "−5.0 (−9.0 to −1.0)"  # noqa: RUF001


HEAD = "paper,table,dataset,row,metric,value,note\n"


def printed(path: Path, text: str) -> Path:
    """A file of published numbers with its digest beside it."""
    path.write_text(text)
    path.with_name(f"{path.name}.sha256").write_text(f"{hashlib.sha256(text.encode()).hexdigest()}  {path.name}\n")
    return path


def test_published_can_be_read_from_elsewhere(tmp_path: Path) -> None:
    suite = small()
    path = printed(tmp_path / "published.csv", f"{HEAD}A & B,table2,synthav,ogm_ge,accuracy,91.3,a note\n")
    made = format_table(suite.tables[0], filled(suite, [VANILLA, OGM_GE]), published=path)
    assert list(made.cells["published"]) == [EMPTY, "91.3"]
    assert "A & B" in dict(made.notes)["Published"]
    assert "ogm_ge: a note" in dict(made.notes)["Published"]


def test_a_changed_digit_of_the_published_numbers_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    shutil.copy(f"{PUBLISHED}.sha256", tmp_path)
    path.write_text(PUBLISHED.read_text().replace("52.5", "53.5", 1))
    with pytest.raises(ValueError, match=r"published\.csv is not the file of published\.csv\.sha256: restore both"):
        read_published(small().tables[0], path)


@pytest.mark.parametrize("value", ["nan", "7000", "-1", "inf", "", "5 2"])
def test_published_numbers_are_percentages(value: str, tmp_path: Path) -> None:
    path = printed(tmp_path / "published.csv", f"{HEAD}A,table2,synthav,ogm_ge,accuracy,{value},\n")
    with pytest.raises(ValueError, match="line 2: value") as error:
        read_published(small().tables[0], path)
    assert "\n" not in str(error.value)
