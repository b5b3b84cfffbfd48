"""Prepared sets whose JSON was edited: valid JSON with wrong content is one line or made again, never other data."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.core.base import DataModule
from datasets.core.errors import CacheError, DataError, VideoDecodeError
from datasets.manifest import Manifest
from datasets.storage.build import build
from datasets.storage.cache import Cache, Column, Decoded, RawItem

CASES = [40, pytest.param(700, marks=pytest.mark.long)]
ODD = [None, True, -1, 0, 3, 2**63, 1e300, "", "x", "\ud800", "../a", [], [[]], {}, {"a": 1}, [None], "<f8", "|O"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, held in items for place in places(held, (*path, key)))]


def mutated(value: Any, rng: random.Random) -> Any:
    """The same JSON with one thing replaced, removed, doubled, moved or changed a little."""
    value = json.loads(json.dumps(value))
    *way, last = rng.choice(places(value)[1:])
    held = value
    for key in way:
        held = held[key]
    old, how = held[last], rng.randrange(5)
    if how == 0:
        del held[last]
    elif how == 1 and isinstance(held, list):
        held.insert(last, old)
    elif how == 2:
        held[last] = {int: lambda x: x + 1, str: lambda x: x[::-1] + "a", list: lambda x: x[::-1]}.get(
            type(old), lambda x: [x]
        )(old)
    elif how == 3:
        other = rng.choice(list(held) if isinstance(held, dict) else range(len(held)))
        held[last], held[other] = held[other], old
    else:
        held[last] = rng.choice(ODD)
    return value


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The arguments of a small prepared set."""
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    rows = ["id,split,label,a:npy,b:npy"]
    for i, part in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 2):
        np.save(tmp_path / f"{i}.npy", np.full((2, 3), i, np.float32))
        rows.append(f"s{i},{part},{'xy'[i % 2]},{i}.npy,{i}.npy")
    (tmp_path / "own.csv").write_text("\n".join(rows))
    args = {"path": str(tmp_path / "own.csv")}
    Manifest.prepare(progress=False, **args)
    return args


def same(module: DataModule) -> bool:
    return all((s[i]["a"] == int(name[1:])).all() for s in module.splits().values() for i, name in enumerate(s.ids))


def check(own: dict[str, str], words: set[str], case: int) -> bool:
    """The set is refused in a line, or as it was. Prepared again it is as it was. Was it refused?"""
    refused = False
    try:
        module = Manifest.module(**own)
        assert same(module) and {s.fingerprint for s in module.splits().values()} == words, case
    except DataError as error:
        refused = True
        assert isinstance(error, CacheError) and "\n" not in str(error) and "prepare" in str(error), case
    Manifest.prepare(progress=False, **own)
    module = Manifest.module(**own)
    assert same(module) and {s.fingerprint for s in module.splits().values()} == words, case
    return refused


@pytest.mark.parametrize("name", ["manifest.json", "index.json"])
@pytest.mark.parametrize("cases", CASES)
def test_an_edited_description_is_one_line_and_made_again(own: dict[str, str], name: str, cases: int) -> None:
    words = {s.fingerprint for s in Manifest.module(**own).splits().values()}
    path = Manifest.folder(Manifest.options(own)) / name
    whole, refused = json.loads(path.read_text()), 0
    for case in range(cases):
        changed = mutated(whole, random.Random(case))
        path.write_text(json.dumps(changed, indent=1, sort_keys=True))
        refused += check(own, words, case)
    assert refused > 0.8 * cases


@pytest.mark.parametrize("cases", CASES)
def test_an_edited_journal_is_made_again(tmp_path: Path, cases: int) -> None:
    columns = {"a": Column("<f4", (3,), 100), "b": Column("|u1", (), 100)}
    pieces = [RawItem(f"clip {i}", f"{i} bytes") for i in range(90)]

    def decode(piece: RawItem) -> Decoded:
        i = int(piece.key.split()[1])
        rows = {"a": np.full((i % 3, 3), i, np.float32), "b": np.array([i], np.uint8)}
        return Decoded(rows, {"odd": i % 2})

    def stops(piece: RawItem) -> Decoded:
        if piece.key == "clip 80":
            raise VideoDecodeError("clip 80: broken")
        return decode(piece)

    right = build(tmp_path / "right", {}, pieces, columns, decode)
    with pytest.raises(VideoDecodeError):
        build(tmp_path / "set", {}, pieces, columns, stops)
    part, kept = tmp_path / "set.part", tmp_path / "kept"
    shutil.copytree(part, kept)
    lines = [json.loads(line) for line in (kept / "journal.jsonl").read_text().splitlines()]
    for case in range(cases):
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(kept, part)
        changed = mutated(lines, random.Random(case))
        (part / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
        made = build(tmp_path / "set", {}, pieces, columns, decode)
        assert {p.name: p.read_bytes() for p in made.folder.iterdir()} == {
            p.name: p.read_bytes() for p in right.folder.iterdir()
        }, case
        shutil.rmtree(made.folder)


def damages() -> list[Callable[[bytes, random.Random], bytes]]:
    """What becomes of the bytes of a file."""

    def flipped(data: bytes, rng: random.Random) -> bytes:
        changed = bytearray(data)
        for _ in range(rng.choice([1, 1, 5])):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed)

    def deep(data: bytes, rng: random.Random) -> bytes:
        return b"[" * 100_000

    return [flipped, flipped, lambda data, rng: data[: rng.randrange(len(data))], deep]


@pytest.mark.parametrize("cases", CASES)
def test_damaged_bytes_are_one_line_and_made_again(own: dict[str, str], cases: int) -> None:
    words = {s.fingerprint for s in Manifest.module(**own).splits().values()}
    folder = Manifest.folder(Manifest.options(own))
    for case in range(cases):
        rng = random.Random(case)
        path = folder / rng.choice(["manifest.json", "index.json"])
        path.write_bytes(rng.choice(damages())(path.read_bytes(), rng))
        check(own, words, case)
    Cache(folder).verify()
