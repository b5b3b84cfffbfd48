"""Hand-checked numbers of every method, fusion and rule, through the project's own functions."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ogm.registry import STRATEGIES
from tests.conformance import check, vectors
from tests.conformance.__main__ import main

FILES = sorted((Path(__file__).parent / "vectors").glob("*.json"))
CASES = [(f"{path.stem}/{method}/{name}", method, vector) for path in FILES for method, name, vector in vectors(path)]
RULES = {"unimodal_logits", "fusion", "modulation_target", "data_parallel"}  # what is no method of its own


def test_every_method_with_vectors_is_one_of_ours() -> None:
    assert len(CASES) == 101 + 85
    assert {method for _, method, _ in CASES} <= RULES | STRATEGIES.keys()


@pytest.mark.parametrize(("name", "method", "vector"), CASES, ids=[case[0] for case in CASES])
def test_vector(name: str, method: str, vector: Any) -> None:
    assert check(method, vector) == ("passed", "")


ONE = {"inputs": {"score_sum": {"a": 3.0, "v": 1.5}}, "hyperparams": {"alpha": 0.3}, "expected": {"k": {"a": 1.0}}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("\udcff", "not JSON"),
        ([], "not an object of methods"),
        ({"ogm": {}}, "'ogm' is not a list of vectors"),
        ({"ogm\n": 3}, r"'ogm\n' is not a list"),
        ({"ogm": [3]}, "ogm, vector 0: "),
        ({"ogm": [{}]}, "inputs: field required"),
        ({"ogm": [{**ONE, "inputs": 3}]}, "inputs: input should be a valid dictionary"),
        ({"ogm": [{**ONE, "hyperparams": None}]}, "hyperparams: "),
        ({"ogm": [{**ONE, "expected": []}]}, "expected: "),
        ({"ogm": [{**ONE, "tolerance": 0}]}, "tolerance: "),
        ({"ogm": [{**ONE, "tolerance": float("nan")}]}, "tolerance: "),
        ({"ogm": [{**ONE, "tolerence": 1e-6}]}, "tolerence: extra inputs are not permitted"),
        ({"ogm": [{**ONE, "id": "a\nb"}]}, r"the name 'a\nb' cannot be printed"),
        ({"ogm": [{**ONE, "inputs": {"score_sum": {"a": 10**9}}}]}, "more than 100000"),
        ({"ogm": [{**ONE, "hyperparams": {}}]}, "ogm/0: KeyError: 'alpha'"),
        ({"ogm": [{**ONE, "inputs": {"score_sum": 3}}]}, "ogm/0: AttributeError: "),
        ({"ogm": [{**ONE, "inputs": {"score_sum": {"a": "x", "v": 1.0}}}]}, "ogm/0: "),
        ({"ogm": [{**ONE, "expected": {"k": {"a": {"b": 1.0}}}}]}, "ogm/0: "),
        ({"ogm": [{**ONE, "expected": {"k": {"a": [[[]]]}}}]}, "ogm/0: "),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(
    content: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file.json"
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_bytes(text.encode(errors="surrogateescape"))
    assert main([str(path)]) in ((1, 2) if says == "ogm/0: " else (2,))
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines() or [captured.out.splitlines()[0]]
    assert str(path) in line or "failed" in line
    assert says in line and line.isprintable()


def mutated(value: Any, rng: random.Random) -> Any:
    """A JSON value with one thing in it changed, left out, renamed or replaced by something of another kind."""
    others = [None, True, -1, 0, 7, 1e30, float("nan"), "x", "\ud800", [], {}, [1.0], {"a": 1.0}, [[1], [1, 2]]]
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        match rng.randrange(8):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {f"{k}_" if k == key else k: v for k, v in value.items()}
            case 2:
                return {**value, "more": rng.choice(others)}
        return {**value, key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        match rng.randrange(6):
            case 0:
                return value[:place]
            case 1:
                return [*value, *value[place:]]
        return [*value[:place], mutated(value[place], rng), *value[place + 1 :]]
    return rng.choice(others)


def mutations(numbers: range, folder: Path, capsys: pytest.CaptureFixture[str]) -> Counter[int]:
    """Exit codes of files with one mutated vector each."""
    codes: Counter[int] = Counter()
    for number in numbers:
        rng = random.Random(number)
        _, method, vector = CASES[number % len(CASES)]
        whole = {method: [vector]}
        (folder / "file.json").write_text(
            json.dumps(mutated(whole, rng) if number % 9 == 0 else {method: mutated([vector], rng)})
        )
        code = main([str(folder / "file.json")])
        err = capsys.readouterr().err
        assert code in (0, 1, 2) and err.count("\n") == (code == 2), (number, err)
        codes[code] += 1
    return codes


@pytest.mark.filterwarnings("ignore")  # of torch, about shapes that broadcast
def test_mutated_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = mutations(range(400), tmp_path, capsys)
    assert codes[2] > 40 and codes[0] and codes[1]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_10_000_mutated_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mutations(range(400, 10_400), tmp_path, capsys).total() == 10_000


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
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 1
    assert "failed       ogm/one: k.a: found 0.46" in done.stdout
    assert "unsupported  unheard_of/one" in done.stdout and "0 passed, 1 failed, 1 unsupported" in done.stdout
