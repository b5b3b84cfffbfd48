"""python -m tests.conformance FILE.json ..."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import tests.conformance
from tests.conformance import check, vectors


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.conformance", description=tests.conformance.__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    parser.add_argument("--strict", action="store_true", help="unsupported vectors count as failures")
    args = parser.parse_args(argv)
    count = {"passed": 0, "failed": 0, "unsupported": 0, "unusable": 0}
    for path in args.files:
        try:
            found = list(vectors(path))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            print(f"error: {path} is not a file of conformance vectors: {_printable(reason)}", file=sys.stderr)
            return 2
        for method, name, vector in found:
            verdict, why = check(method, vector)
            count[verdict] += 1
            if verdict == "unusable":
                print(f"error: {path}: {method}/{name}: {_printable(why)}", file=sys.stderr)
            else:
                print(f"{verdict:<12} {method}/{name}{': ' + _printable(why) if why else ''}")
    print(", ".join(f"{n} {verdict}" for verdict, n in count.items() if n or verdict != "unusable"))
    if count["unusable"]:
        return 2
    return 1 if count["failed"] or (args.strict and count["unsupported"]) else 0


def _printable(text: object) -> str:
    return " ".join(str(text).encode("ascii", "backslashreplace").decode().split())


if __name__ == "__main__":
    sys.exit(main())
