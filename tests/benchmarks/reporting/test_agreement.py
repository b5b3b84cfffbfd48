"""agree: rank correlations between results folders, with an interval, and what is left out of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.__main__ import main
from benchmarks.config.suite import Suite
from benchmarks.records import suite_file
from benchmarks.reporting.agreement import Ranking, _resampled_means, correlations, kendall, read_ranking, spearman
from tests.helpers.records import filled, small
from tests.helpers.suites import one_line_each

LABELS = ("vanilla", "ogm_ge", "ogm", "ge_noise")


def ranking(scores: np.ndarray, **changes: object) -> Ranking:
    rows = {f"m{i}": list(row) for i, row in enumerate(scores)}
    return dataclasses.replace(Ranking(Path("a folder"), rows, {}, 0.0), **changes)


def folder(path: Path, accuracies: Sequence[float], units: int = 5, missing: int = 0) -> Path:
    """A comparison of four rows; each unit has the accuracies of the rows, shifted alike. The last row lacks runs."""
    suite = small(LABELS, units)
    ranked = Suite(suite.name, suite.title, (dataclasses.replace(suite.tables[0], ranked=True),))
    shifts = [0.01 * (unit % 3) for unit in range(units)]
    records = list(filled(ranked, [[a + s for s in shifts] for a in accuracies]).values())
    for record in records[: len(records) - missing]:
        record.save(path)
    suite_file.save(path, suite_file.Recorded({"compare": {}}, ranked))
    return path


def test_both_coefficients_are_scipys_with_ties() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 5, (20, 8)).astype(float) for _ in range(2))
    for line, rho, tau in zip(range(20), spearman(first, second), kendall(first, second), strict=True):
        assert rho == pytest.approx(stats.spearmanr(first[line], second[line]).statistic)
        assert tau == pytest.approx(stats.kendalltau(first[line], second[line]).statistic)
    assert np.isnan(spearman(np.ones((1, 4)), second[:1, :4])) and np.isnan(kendall(np.ones((1, 4)), second[:1, :4]))


def test_sums_in_another_order_are_no_other_ranks() -> None:
    first = np.array([[0.1 + 0.2, 0.3, 0.5]])
    assert kendall(first, np.array([[1.0, 1.0, 2.0]])) == pytest.approx(1)


def test_methods_far_apart_agree_for_sure_and_noise_widens_the_interval() -> None:
    rng = np.random.default_rng(1)
    order = np.arange(10.0)[:, None]
    clear = [ranking(order + 0.01 * rng.normal(size=(10, 8))) for _ in range(2)]
    noisy = [ranking(order + 5 * rng.normal(size=(10, 8))) for _ in range(2)]
    for found in correlations(*clear).values():
        assert found.value == pytest.approx(1) and found.low == pytest.approx(1) and found.high == pytest.approx(1)
    for found in correlations(*noisy).values():
        assert found.low < found.value < 1 and found.high - found.low > 0.2
    assert correlations(*noisy) == correlations(*noisy)


def test_units_are_resampled_for_all_rows_together() -> None:
    """What shifts all rows of a unit alike changes no rank, however large it is."""
    rng = np.random.default_rng(2)
    shifted = [ranking(np.arange(6.0)[:, None] + 100 * rng.normal(size=(1, 8))) for _ in range(2)]
    assert correlations(*shifted)["rho"].low == pytest.approx(1)


def test_too_few_units_and_an_unknown_overlap_have_no_interval() -> None:
    scores = np.arange(40.0).reshape(8, 5)
    for other in (ranking(scores[:, :4]), ranking(scores, overlap=math.nan)):
        found = correlations(ranking(scores), other)["tau"]
        assert found.value == pytest.approx(1) and math.isnan(found.low) and math.isnan(found.high)


def test_splits_that_share_samples_have_the_wider_interval_of_nadeau_and_bengio() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(4, 5))
    plain, corrected = (_resampled_means(np.random.default_rng(0), scores, overlap) for overlap in (0.0, 0.25))
    assert corrected.var(0) == pytest.approx(plain.var(0) * (1 + 5 * 0.25))
    assert plain.var(0) == pytest.approx(scores.var(1) / 5, rel=0.05)
    noisy = np.arange(10.0)[:, None] + 3 * rng.normal(size=(10, 5))
    drawn, split = (correlations(ranking(noisy), ranking(noisy, overlap=o))["rho"] for o in (0.0, 0.28))
    assert split.value == drawn.value and split.low < drawn.low


def test_incomplete_rows_are_left_out_and_named(tmp_path: Path) -> None:
    one = read_ranking(folder(tmp_path / "one", [0.5, 0.6, 0.7, 0.8], missing=2))
    assert list(one.scores) == list(LABELS[:3]) and one.left_out == {"ge_noise": "missing 2/5"}
    assert one.scores["ogm"] == pytest.approx([69, 70, 71, 69, 70])  # the epoch that validation selected: a point less


def test_the_command_prints_matrices_and_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = folder(tmp_path / "one", [0.5, 0.6, 0.7, 0.8])
    other = folder(tmp_path / "other", [0.8, 0.7, 0.6, 0.5])
    third = folder(tmp_path / "third", [0.5, 0.6, 0.7, 0.8], missing=1)
    file = tmp_path / "new" / "agree.csv"
    assert main(["agree", str(one), str(other), str(third), "--csv", str(file)]) == 0
    out = capsys.readouterr().out
    assert f"1: {one}, 4 complete rows, 5 units" in out and "left out: ge_noise (missing 1/5)" in out
    assert "-1.00 [-1.00, -1.00]  1.00 [1.00, 1.00]" in out and "No interval" not in out
    frame = pd.read_csv(file)
    assert list(frame["rho"]) == pytest.approx([-1, 1, -1]) and list(frame["rows"]) == [4, 3, 3]
    assert list(frame["tau_low"]) == pytest.approx([-1, 1, -1])


def test_one_draw_of_the_data_has_no_interval_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (folder(tmp_path / name, [0.5, 0.6, 0.7, 0.8], units=1) for name in ("one", "other"))
    assert main(["agree", str(one), str(other)]) == 0
    out = capsys.readouterr().out
    assert "4 complete rows, 1 unit\n" in out and "[" not in out
    assert "No interval where a folder has fewer than 5 draws or splits" in out


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = folder(tmp_path / "one", [0.5, 0.6, 0.7, 0.8])
    few = folder(tmp_path / "few", [0.5, 0.6, 0.7, 0.8], missing=6)
    empty = tmp_path / "empty"
    for folders, says in (
        ([one], "two or more folders, each once"),
        ([one, one], "two or more folders, each once"),
        ([one, empty], "it has 0 ranked tables, but must have one"),
        ([one, few], "have 2 complete rows in common; it takes 3"),
    ):
        (line,) = one_line_each(["agree", *map(str, folders)], capsys)
        assert says in line
