"""The command ``list``: the names that settings take."""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

from benchmarks.cli.options import add_files

BRIEF = "what there is"
DESCRIPTION = """\
The names that settings take, and what is known of each.

  python -m benchmarks list methods            every method in short
  python -m benchmarks list methods ogm_ge     one in full: steps, options, and where paper and code disagree
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_files(parser)
    parser.add_argument("what", choices=["methods", "fusions", "encoders", "datasets", "suites"])
    parser.add_argument("name", nargs="?", metavar="NAME", help="of one method, which is shown in full")


def execute(args: argparse.Namespace) -> int:
    """Print the list. Returns the exit code."""
    if args.name is not None and args.what != "methods":
        raise ValueError(f"list {args.what} takes no further name, got {args.name!r}; methods do")
    if args.what == "methods":
        _print_methods(args.name)
    elif args.what == "suites":
        _print_suites()
    elif args.what == "datasets":
        _print_datasets()
    else:
        from benchmarks.cli import listing

        getattr(listing, f"print_{args.what}")()
    return 0


def _print_methods(name: str | None) -> None:
    from benchmarks.cli import method_page

    if name is None:
        method_page.print_short()
    else:
        method_page.print_full(name)


def _print_suites() -> None:
    from benchmarks.config.suite import FOLDER, names

    for name in names():
        print(f"{name:<24} {(FOLDER / f'{name}.yaml').read_text().splitlines()[0].lstrip('# ')}")


def _print_datasets() -> None:
    """Each with the first line of its module's docstring, which is read without importing torch."""
    from datasets.registry import DATASETS

    for name, place in DATASETS.items():
        module = place.partition(":")[0]
        path = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py")
        if module in sys.modules:  # a file of the user's own, among others
            path = Path(str(sys.modules[module].__file__))
        print(f"{name:<24} {(ast.get_docstring(ast.parse(path.read_text())) or '-').splitlines()[0]}")
