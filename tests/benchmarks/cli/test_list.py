"""What `list methods` tells of each method."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ogm.registry import STRATEGIES, find


def test_every_method_with_its_paper_costs_and_defaults() -> None:
    root = Path(__file__).resolve().parents[3]
    words = [sys.executable, "-m", "benchmarks", "list", "methods"]
    made = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    lines = {line.split()[0]: line for line in made.stdout.splitlines() if line.split()[:1]}
    for name in STRATEGIES:
        cls = find(name, STRATEGIES, "strategy")
        assert cls.category in lines[name]
        assert cls.paper.split()[0] in lines[name]
    assert "worth searching: alpha=[0.1, 0.3, 0.5, 0.8, 1.0]" in made.stdout
    assert "alpha=0.3 variant=paper" in made.stdout and "alpha=0.8" in made.stdout
