"""The command ``page``: one web page of several results folders, from their records."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.cli.options import add_files

BRIEF = "one interactive page of several results folders"
DESCRIPTION = """\
Makes one web page of several results folders, from their suite.json and records: tables to sort and filter, curves, and
a ranking over the data sets. The page is one file that needs no network. Nothing is trained.

  python -m benchmarks page results/reference/compare-* --out results/page.html"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_files(parser, hidden=True)
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="folders that reproduce or compare made"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("results/page.html"), metavar="FILE.html", help="default: %(default)s"
    )
    parser.add_argument("--title", default="OGM-Bench: results", help="what stands above the page")


def execute(args: argparse.Namespace) -> int:
    """Write the page. Returns the exit code."""
    from benchmarks.config.run_config import ConfigError
    from benchmarks.records.record import write_whole
    from benchmarks.records.suite_file import read
    from benchmarks.reporting.report import page_of

    suites = []
    mistakes = []
    for folder in dict.fromkeys(path.resolve() for path in args.folders):
        made = read(folder)
        if made is None:
            mistakes.append(f"{folder}: no suite.json, so this is no folder that reproduce, compare or tune made")
        else:
            suites.append((made.suite, folder))
    if args.out.suffix != ".html":
        mistakes.append(f"--out {args.out}: the page is HTML, so its name ends in .html")
    if mistakes:
        raise ConfigError(mistakes)
    write_whole(args.out, page_of(suites, args.title))
    print(args.out)
    return 0
