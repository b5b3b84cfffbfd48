"""Long lists go through a pager on a terminal, and nowhere else; each test has a real terminal or a real pipe."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.helpers.commands import ROOT, run_process
from tests.helpers.terminals import on_terminal

METHODS = ("benchmarks", "list", "methods")
FOREIGN = "sed s/^/paged:/"  # a pager that shows that it was used


def piped(*words: str, **env: str) -> str:
    done = run_process([sys.executable, "-m", *words], **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_longer_than_the_screen_goes_through_the_pager_that_is_named() -> None:
    code, shown = on_terminal(METHODS, 24, 80, PAGER=FOREIGN)
    assert code == 0
    assert shown == "".join(f"paged:{line}\n" for line in piped(*METHODS, COLUMNS="80").splitlines())


def test_what_fits_on_the_screen_is_printed() -> None:
    code, shown = on_terminal(("benchmarks", "list", "suites"), 24, 120, PAGER=FOREIGN)
    assert code == 0 and shown == piped("benchmarks", "list", "suites")


def test_pager_cat_shows_all_of_it() -> None:
    code, shown = on_terminal(METHODS, 24, 80, PAGER="cat")
    assert code == 0 and shown == piped(*METHODS, COLUMNS="80")


def test_nothing_is_paged_in_a_pipe() -> None:
    assert "paged:" not in piped(*METHODS, PAGER=FOREIGN, LINES="5")


@pytest.mark.skipif(not shutil.which("less"), reason="needs the program less")
def test_less_is_the_pager_where_none_is_named_and_leaves_the_command_well() -> None:
    code, shown = on_terminal(METHODS, 10, 80, keys=b"q")
    assert code == 0 and "vanilla: Joint training" in shown
    assert "arl:" not in shown and "Traceback" not in shown


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m benchmarks list methods | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith("vanilla")
