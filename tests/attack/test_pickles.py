"""No pickle reads memory, runs anything, takes long or grows: hostile ones by hand, and 100,000 mutated ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from datasets.decode.safe_pickle import read_pickle
from tests.attack.pickles import HOSTILE, array, dtype, good, outcome, plain, within
from tests.helpers.commands import ROOT


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.timeout(60)
def test_a_hostile_pickle_is_refused_in_a_line(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mosi_data.pkl"
    path.write_bytes(HOSTILE[what])
    assert outcome(path) in ("ManifestError", "UnsafePickleError")
    assert list(tmp_path.iterdir()) == [path]
    assert capfd.readouterr() == ("", "")


def test_good_pickles_are_read_after_all_of_that(tmp_path: Path) -> None:
    for number, file in enumerate(good()):
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(file)
        assert outcome(path) == "read" and read_pickle(path)["train"]


def test_one_long_text_does_not_make_all_of_them_long(tmp_path: Path) -> None:
    (tmp_path / "texts.pkl").write_bytes(
        within(array(plain((20_001,)), dtype("O8", "|"), plain(["a" * 1_000_000] + ["b"] * 20_000)))
    )
    assert read_pickle(tmp_path / "texts.pkl")["train"]["text"].nbytes == 8 * 20_001


def fuzz(first: int, end: int) -> dict[str, dict[str, int]]:
    """What came of these cases, in a process whose memory is limited and which would not survive a wild pointer."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.attack.pickles", str(first), str(end)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_mutated_pickles() -> None:
    outcomes = fuzz(0, 3000)["outcomes"]
    assert sum(outcomes.values()) == 3000 and outcomes.keys() == {"read", "ManifestError", "UnsafePickleError"}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_100_000_mutated_pickles() -> None:
    outcomes = fuzz(3000, 100_000)["outcomes"]
    assert sum(outcomes.values()) == 97_000 and outcomes["read"] > 1000
