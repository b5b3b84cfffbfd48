"""The command ``list``: the names that settings take."""

from __future__ import annotations

import argparse
import sys

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
    """Each as ``python -m datasets list`` shows it; of a file of the user's own, the first line of its docstring."""
    from benchmarks.config.run_config import FILES
    from datasets.core.card_page import committed_results, for_terminal
    from datasets.registry import DATASETS, card

    results, shown = committed_results(), []
    for name, place in DATASETS.items():
        if name in FILES:
            about = sys.modules[place.partition(":")[0]].__doc__ or "-"
            shown.append(f"{name:<17}{about.splitlines()[0]}")
        else:
            shown.append(for_terminal(name, card(name), results))
    print("\n\n".join(shown))
