"""What `list methods` tells of each method."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import main
from ogm.registry import STRATEGIES, find


def test_every_method_with_its_paper_costs_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "methods"]) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line.split()[:1]}
    for name in STRATEGIES:
        cls = find(name, STRATEGIES, "strategy")
        assert cls.category in lines[name]
        assert cls.paper.split()[0] in lines[name]
    assert "tune searches: alpha=0.1..1 (log)" in out and "tune searches: factors=0.03..1 (log) for any one" in out
    assert "alpha=0.3 variant=paper" in out and "alpha=0.8" in out
