"""Writes benchmarks/config/parts.json, what ``list`` tells of methods, fusions and encoders: python -m tests.parts."""

from __future__ import annotations

import json

from benchmarks.config.parts import FILE, KINDS, ask, source_digest


def content() -> str:
    """The file as the classes have it today: JSON with a line for each name."""
    kinds = []
    for kind, names in KINDS.items():
        lines = [
            f"  {json.dumps(name)}: {json.dumps({'source': source_digest(place), 'facts': ask(kind, name)})}"
            for name, place in names.items()
        ]
        kinds.append(f" {json.dumps(kind)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(kinds) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(content(), "utf-8")
