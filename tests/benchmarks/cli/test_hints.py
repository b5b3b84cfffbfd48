"""Every command that a message, help text or example names is one that works as typed."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import benchmarks.__main__
import datasets.__main__

ROOT = Path(__file__).resolve().parents[3]
# A command ends with its line, with the backtick that closes it, before two spaces, or before a bracket or semicolon.
COMMAND = re.compile(r"python -m (benchmarks|datasets) ([^`\n;()]*?)(?=`|  |\n|;|\(|\)|$)")
NO_COMMAND = "|"  # "list | info | download" names several


def texts(tree: ast.AST) -> Iterator[str]:
    """The strings of a module that are no docstrings; what an f-string fills in is a word."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
        if isinstance(node.body[0], ast.Expr)
    }
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "filled_in" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside | docstrings:
            yield node.value


def hinted() -> list[tuple[str, str, str]]:
    """File, program and arguments of each command."""
    return sorted(
        {
            (path.relative_to(ROOT).as_posix(), match[1], match[2].strip().rstrip(".,:"))
            for package in ("benchmarks", "datasets")
            for path in (ROOT / package).rglob("*.py")
            for text in texts(ast.parse(path.read_text("utf-8")))
            for match in COMMAND.finditer(text)
            if NO_COMMAND not in match[2]
        }
    )


@pytest.mark.parametrize(("file", "program", "arguments"), hinted())
def test_a_command_that_is_named_is_one(file: str, program: str, arguments: str) -> None:
    words = ["methods" if word == "filled_ins" else word.replace("KIND", "methods") for word in shlex.split(arguments)]
    if program == "benchmarks":
        args = benchmarks.__main__.read(words)
        assert all("=" in word for word in getattr(args, "settings", ())), words
    else:
        args = datasets.__main__._parser().parse_args(words)
        assert all("=" in word for word in getattr(args, "args", ())), words


def test_hints_are_found() -> None:
    assert len(hinted()) > 40
    tree = ast.parse(
        '"""`python -m benchmarks no`"""\nx = f"no {kind}: `python -m benchmarks list {kind}s` prints all"'
    )
    assert [match[2] for text in texts(tree) for match in COMMAND.finditer(text)] == ["list filled_ins"]
