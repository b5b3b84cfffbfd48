"""Hand-checked numbers of every method, fusion and rule, through the project's own functions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ogm.registry import STRATEGIES
from tests.conformance import check, vectors
from tests.shared import SHARED, shared

FILES = sorted((SHARED / "reference").glob("conformance_*.json"))
CASES = [(f"{path.stem}/{method}/{name}", method, vector) for path in FILES for method, name, vector in vectors(path)]
RULES = {"unimodal_logits", "fusion", "modulation_target", "data_parallel"}  # what is no method of its own


def test_the_vectors_are_beside_this_checkout() -> None:
    shared("reference", "conformance_gradient.json")
    assert len(FILES) == 2


@pytest.mark.parametrize(("name", "method", "vector"), CASES, ids=[case[0] for case in CASES])
def test_vector(name: str, method: str, vector: Any) -> None:
    verdict, why = check(method, vector)
    if method not in RULES | STRATEGIES.keys():
        assert verdict == "unsupported"
    else:
        assert verdict == "passed", why


def test_a_wrong_number_fails_and_is_named(tmp_path: Path) -> None:
    vector = {
        "id": "one",
        "inputs": {"score_sum": {"a": 3.0, "v": 1.5}},
        "hyperparams": {"alpha": 0.3},
        "expected": {"rho": {"a": 2.0, "v": 0.5}, "k": {"a": 0.5, "v": 1.0}},
        "tolerance": 1e-6,
    }
    (tmp_path / "file.json").write_text(json.dumps({"ogm": [vector], "unheard_of": [vector]}))
    done = subprocess.run(
        [sys.executable, "-m", "tests.conformance", str(tmp_path / "file.json")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 1
    assert "failed       ogm/one: k.a: found 0.46" in done.stdout
    assert "unsupported  unheard_of/one" in done.stdout and "0 passed, 1 failed, 1 unsupported" in done.stdout
