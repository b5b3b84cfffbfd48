"""The bar that downloads, preparations and verifications share, on a terminal and without one."""

from __future__ import annotations

import os
import re
import sys
import time

import pytest

from datasets.core.progress import bar


def test_a_terminal_sees_how_far_it_is_and_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, program = os.openpty()
    with os.fdopen(program, "w") as stderr, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        patch.setenv("TERM", "xterm")
        with bar() as progress:
            assert progress
            for done in range(10):
                progress("fetching 3 of 7 files", done, 40)
                time.sleep(0.05)
        shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert re.search(r"fetching 3 of 7 files .* [1-9]\d? % \S*0:00:0[1-9]", shown), shown


def test_nobody_else_sees_anything(capsys: pytest.CaptureFixture[str]) -> None:
    with bar() as progress:
        assert progress is None
    assert capsys.readouterr() == ("", "")
