"""Damaged JSON and YAML: valid text with wrong content, and text that is no longer valid."""

from __future__ import annotations

import copy
import random
from typing import Any

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3,
    10**9,
    1.5,
    float("nan"),
    "",
    "x",
    "synthav",
    [],
    {},
    [1],
    ["x"],
    [[]],
    {"x": 1},
)


def places(content: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every part of it is."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [where, *(p for name, part in inside for p in places(part, (*where, name)))]


def changed(content: Any, moves: random.Random) -> Any:
    """Another value, another type, a part less, a part more, a part twice, or another name, somewhere in it."""
    content = copy.deepcopy(content)
    *before, last = moves.choice([p for p in places(content) if p] or [(None,)])
    if last is None:
        return moves.choice(VALUES)
    holder = content
    for name in before:
        holder = holder[name]
    what = moves.choice(["value", "value", "value", "gone", "more", "renamed", "all"])
    if what == "gone":
        del holder[last]
    elif what == "more":
        holder.append(moves.choice(VALUES)) if isinstance(holder, list) else holder.update(
            {"more": moves.choice(VALUES)}
        )
    elif what == "renamed" and isinstance(holder, dict):
        holder[moves.choice([f"{last}s", str(last)[:-1], 7, None])] = holder.pop(last)
    elif what == "all":
        return moves.choice(VALUES)
    else:
        holder[last] = moves.choice(VALUES)
    return content


def garbled(text: str, moves: random.Random) -> str:
    """Some characters replaced, a piece doubled, or the end missing."""
    i, j = sorted(moves.sample(range(len(text)), 2))
    what = moves.choice(["replaced", "doubled", "cut"])
    if what == "cut":
        return text[:i]
    if what == "doubled":
        return text[:j] + text[i : min(j, i + 50)] + text[j:]
    return text[:i] + moves.choice("{}[]:,-#&*!|>'\"%@`\t\n0x\x00é") + text[i + 1 :]
