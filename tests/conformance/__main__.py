"""python -m tests.conformance FILE.json ..."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import tests.conformance
from tests.conformance import check, vectors


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.conformance", description=tests.conformance.__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    parser.add_argument("--strict", action="store_true", help="unsupported vectors count as failures")
    args = parser.parse_args()
    count = {"passed": 0, "failed": 0, "unsupported": 0}
    for path in args.files:
        try:
            found = list(vectors(path))
        except (OSError, ValueError, AttributeError) as error:
            print(f"error: {path} is not a file of conformance vectors: {error}", file=sys.stderr)
            return 2
        for method, name, vector in found:
            verdict, why = check(method, vector)
            count[verdict] += 1
            print(f"{verdict:<12} {method}/{name}{': ' + why if why else ''}")
    print(", ".join(f"{n} {verdict}" for verdict, n in count.items()))
    return 1 if count["failed"] or (args.strict and count["unsupported"]) else 0


if __name__ == "__main__":
    sys.exit(main())
