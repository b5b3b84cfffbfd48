"""The command ``pack``: the records of a results folder in one file."""

from __future__ import annotations

import argparse
from pathlib import Path

BRIEF = "the records of a results folder in one file"
DESCRIPTION = """\
Puts the records of a results folder into records.jsonl.gz, one per line of JSON, with the index records.csv, and
deletes the single files. All commands read either form; new runs are recorded in single files beside it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("folder", type=Path, help="a results folder, such as results/paper")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="let single files replace packed records of the same runs with other results (default: refused)",
    )


def execute(args: argparse.Namespace) -> int:
    """Write the packed file. Returns the exit code."""
    from benchmarks.records.store import pack

    print(pack(args.folder, overwrite=args.overwrite))
    return 0
