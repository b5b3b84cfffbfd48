"""The docs' pages that are written from the classes: ``python -m tests.paper_and_code`` writes both anew.

docs/methods.md has an entry for each method. docs/paper_and_code.md has what each class says under ``Differences:``,
with where it can be seen: docs/paper_and_code.yaml gives the lines of released code, and the conformance vectors whose
numbers show it. Numbers of both sides are computed here, by the functions that check the vectors.
"""

from __future__ import annotations

import copy
import functools
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict

from benchmarks.cli import method_page
from benchmarks.config.method_text import MethodText, method_text
from models.registry import FUSIONS
from ogm.registry import STRATEGIES, find
from tests.conformance import CHECKERS, vectors

ROOT = Path(__file__).resolve().parents[1]
SOURCE, PAGE, METHODS = (ROOT / "docs" / name for name in ("paper_and_code.yaml", "paper_and_code.md", "methods.md"))
VECTORS = ROOT / "tests" / "conformance" / "vectors"
KINDS = {
    "method": "Paper and released code describe different methods: another loss, update or prediction.",
    "broken": "The released code stops with an error, in this method or in a part of it.",
    "code": "The released code trains in a way that the paper does not mention, or the paper was not read.",
    "evaluation": "How a model is selected, measured or kept.",
    "settings": "Values, initialisations and set-ups of experiments.",
    "edge": "The same method, but for ties, zeros, overflow, the last batch, or a constant.",
    "port": "A re-implementation by others departs from the method.",
    "reading": "What could not be read, or is ambiguous in the paper.",
    "agree": "Paper and code agree.",
    "ours": "This suite's own choice or extension.",
}
SEEN = {"method", "broken", "code", "evaluation", "settings", "edge", "port"}  # need a place where they can be seen
OURS = re.compile(r"Ours\b|None\b|The differences of ")  # sentences that need no entry: they are about this suite alone


class Side(BaseModel):
    """One of the numbers that a vector shows."""

    model_config = ConfigDict(extra="forbid")

    read: str
    set: dict[str, Any] = {}


class Shows(BaseModel):
    """A vector, and a number of it for each side."""

    model_config = ConfigDict(extra="forbid")

    vector: str
    sides: dict[str, Side]


class Entry(BaseModel):
    """Where one sentence of a class can be seen."""

    model_config = ConfigDict(extra="forbid")

    says: str
    kind: str
    seen: list[str] = []
    paper: str = ""
    source: str = ""
    vector: str = ""
    shows: Shows | None = None
    secondhand: bool = False


class Repository(BaseModel):
    """Released code at a commit."""

    model_config = ConfigDict(extra="forbid")

    name: str
    commit: str
    methods: list[str]
    selects: Literal["test", "validation", "none", ""] = ""
    at: list[str] = []
    broken: list[str] = []


class Evidence(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    repositories: dict[str, Repository]
    methods: dict[str, list[Entry]]
    fusions: dict[str, list[Entry]]


@functools.cache
def evidence() -> Evidence:
    return Evidence.model_validate(yaml.safe_load(SOURCE.read_text(encoding="utf-8")))


@functools.cache
def texts() -> dict[str, dict[str, MethodText]]:
    """Part of the file -> name -> docstring."""
    registries = {"methods": (STRATEGIES, "strategy"), "fusions": (FUSIONS, "fusion")}
    return {
        part: {name: method_text(find(name, names, what)) for name in names}
        for part, (names, what) in registries.items()
    }


def entry_of(part: str, name: str, sentence: str) -> Entry | None:
    """The entry that begins like a sentence. Raises ValueError if there are several."""
    found = [e for e in getattr(evidence(), part).get(name, []) if sentence.startswith(e.says)]
    if len(found) > 1:
        raise ValueError(f"{name}: several entries begin like {sentence[:60]!r}")
    return found[0] if found else None


@functools.cache
def all_vectors() -> dict[str, tuple[str, Mapping[str, Any]]]:
    """FILE/METHOD/NAME -> (method, vector)."""
    return {
        f"{path.stem}/{method}/{name}": (method, vector)
        for path in sorted(VECTORS.glob("*.json"))
        for method, name, vector in vectors(path)
    }


def numbers(shows: Shows) -> dict[str, float]:
    """What this suite computes for each side of a vector."""
    method, vector = all_vectors()[shows.vector]
    found = {}
    for name, side in shows.sides.items():
        changed = copy.deepcopy(dict(vector))
        changed["hyperparams"] = {**vector.get("hyperparams", {}), **side.set}
        value = CHECKERS[method](changed)
        for key in side.read.split("."):
            value = value[int(key)] if key.isdigit() else value[key]
        found[name] = float(torch.as_tensor(value).detach())
    return found


def number(value: float) -> str:
    return f"{value:.4g}"


def link(place: str, owner: str) -> str:
    """A place in released code, as a link to its lines at the commit that was read.

    Args:
        place: ``FILE:LINES`` in the repository of ``owner``, or ``REPOSITORY FILE:LINES``.
        owner: The repository that is meant where none is named.
    """
    repository, _, rest = place.rpartition(" ")
    found = evidence().repositories[repository or owner]
    path, _, lines = rest.partition(":")
    anchor = "-".join(f"L{n}" for n in lines.split("-")) if lines else ""
    shown = f"{found.name} {rest}" if repository and repository != owner else rest
    return f"[{shown}](https://github.com/{found.name}/blob/{found.commit}/{path}{'#' + anchor if anchor else ''})"


def owner_of(name: str) -> str:
    """The key of the repository of a method's authors; empty if there is none."""
    return next((key for key, r in evidence().repositories.items() if name in r.methods), "")


def where(entry: Entry, owner: str) -> str:
    """The evidence of an entry, in one line."""
    parts = [f"paper: {entry.paper}"] if entry.paper else []
    parts += [f"seen in {', '.join(link(place, owner) for place in entry.seen)}"] if entry.seen else []
    parts += [entry.source] if entry.source else []
    if entry.shows is not None:
        sides = ", ".join(f"{side} {number(value)}" for side, value in numbers(entry.shows).items())
        parts.append(f"vector `{entry.shows.vector}`: {sides}")
    elif entry.vector:
        parts.append(f"vector `{entry.vector}`")
    return "; ".join(parts)


def section(part: str, name: str) -> str:
    """What one class says, each sentence with its kind and its evidence; empty if there is nothing to say."""
    text, owner = texts()[part][name], owner_of(name)
    lines = []
    for sentence in text.differences:
        entry = entry_of(part, name, sentence)
        if entry is None or entry.kind == "ours":
            continue
        evident = where(entry, owner)
        lines.append(f"- **{entry.kind}**: {sentence}" + (f"\n  - {evident}" if evident else ""))
    if not lines:
        return ""
    sources = [f"Paper: {', '.join([*text.papers, *text.arxiv])}", f"Code: {', '.join(text.code)}"]
    lines.insert(0, f"- {'; '.join(x.rstrip('.') for x in (sources if part == 'methods' else text.references))}")
    if owner and (found := evidence().repositories[owner]).selects:
        shown = {"none": "every epoch", "test": "the best epoch on test", "validation": "the best epoch on validation"}
        places = ", ".join(link(place, owner) for place in found.at)
        lines.insert(1, f"- It reports {shown[found.selects]}: {places}")
    return f"### {name}\n\n" + "\n".join(lines)


def counted() -> dict[str, list[str]]:
    """What the summary counts: what is said -> the methods of which it holds."""
    found = evidence()
    kinds = {m: {e.kind for e in found.methods.get(m, [])} for m in STRATEGIES}
    published = [m for m in STRATEGIES if texts()["methods"][m].papers != ["this suite"]]
    released = [m for m in published if owner_of(m)]
    selects = {m: found.repositories[owner_of(m)].selects for m in released}
    broken = [m for m in released if found.repositories[owner_of(m)].broken]
    differ = [m for m in released if "method" in kinds[m]]
    return {
        "come from a paper": published,
        "have code of their authors that was read": released,
        "of these: paper and code describe different methods": differ,
        "of those: what the paper says is known at second hand only": [
            m for m in differ if all(e.secondhand for e in found.methods[m] if e.kind == "method")
        ],
        "of these: the best epoch is chosen on test": [m for m in released if selects[m] == "test"],
        "of these: the best epoch is chosen on validation": [m for m in released if selects[m] == "validation"],
        "of these: every epoch is reported": [m for m in released if selects[m] == "none"],
        "of these: the code does not run as released": broken,
        "a re-implementation by others departs from it": [m for m in published if "port" in kinds[m]],
    }


def page() -> str:
    """docs/paper_and_code.md."""
    rows = [f"| {what} | {len(names)} | {', '.join(names)} |" for what, names in counted().items()]
    shown = [e for part in ("methods", "fusions") for es in getattr(evidence(), part).values() for e in es]
    kinds = {kind: sum(e.kind == kind for e in shown) for kind in KINDS if kind != "ours"}
    repositories = evidence().repositories.values()
    tests = sum(r.selects == "test" for r in repositories)
    parts = [
        "# Paper and code",
        "Where a paper, the code released for it, re-implementations by others and this suite disagree. Written by "
        "`python -m tests.paper_and_code`: the sentences are those of the classes, the places those of "
        "[paper_and_code.yaml](paper_and_code.yaml). Numbers are computed by this suite for the vector that is named; "
        "`python -m tests.conformance tests/conformance/vectors/FILE.json` checks all vectors of a file. Released code "
        "was read at the commit that is linked, and not run unless a sentence says so. This does not judge what "
        "a paper claims.",
        "## In short",
        f"{tests} of the {sum(bool(r.selects) for r in repositories)} repositories of authors report the epoch that is "
        "best on the test set.",
        "\n".join(["| of the methods here | number | which |", "|---|---:|---|", *rows]),
        "\n".join(
            ["| kind | sentences | what it means |", "|---|---:|---|"]
            + [f"| {kind} | {count} | {KINDS[kind]} |" for kind, count in kinds.items()]
        ),
        "## Methods",
        *filter(None, (section("methods", name) for name in STRATEGIES)),
        "## Fusions",
        *filter(None, (section("fusions", name) for name in FUSIONS)),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    METHODS.write_text(method_page.markdown(), encoding="utf-8")
    sys.exit(0)
