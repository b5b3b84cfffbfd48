"""The command ``list``: the names that settings take."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from benchmarks.cli.options import add_files

BRIEF = "what there is"
DESCRIPTION = """\
The names that settings take, and what is known of each.

  python -m benchmarks list methods            every method in short
  python -m benchmarks list methods ogm_ge     one in full: steps, options, and where paper and code disagree
  python -m benchmarks list datasets crema_d   one data set: how to get it, licence, options, recipe of a run

On a terminal, what is longer than the screen goes through the pager that PAGER names (PAGER=cat: through none).
"""
KINDS = {"methods": "method", "fusions": "fusion", "encoders": "encoder", "datasets": "dataset", "suites": "suite"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_files(parser)
    parser.add_argument("what", choices=list(KINDS))
    parser.add_argument("name", nargs="?", metavar="NAME", help="one of them, which is shown in full")


def execute(args: argparse.Namespace) -> int:
    """Print the list, or one entry in full. Returns the exit code."""
    from benchmarks.cli.terminal import show

    kind = KINDS[args.what]
    show(_all(args.what) if args.name is None else _one(kind, args.name))
    return 0


def _all(what: str) -> Iterable[str]:
    from benchmarks.cli import listing, method_page

    return method_page.short() if what == "methods" else getattr(listing, what)()


def _one(kind: str, name: str) -> Iterable[str]:
    """The lines of one entry. Raises ValueError, with the nearest names, where there is none of this name."""
    if kind == "suite":
        from benchmarks.cli import data_page

        return data_page.suite(name)
    _require(kind, name)
    if kind == "dataset":
        from benchmarks.cli import data_page

        return data_page.dataset(name)
    from benchmarks.cli import part_page

    return getattr(part_page, kind)(name)  # type: ignore[no-any-return]


def _require(kind: str, name: str) -> None:
    from benchmarks.config.run_config import known
    from datasets.registry import DATASETS
    from models.registry import ENCODERS, FAMILIES, FUSIONS
    from ogm.registry import STRATEGIES

    names: Mapping[str, Mapping[str, str]] = {
        "method": STRATEGIES,
        "fusion": FUSIONS,
        "encoder": {**ENCODERS, **FAMILIES},
        "dataset": DATASETS,
    }
    if not (kind == "encoder" and name.partition(":")[0] in FAMILIES):
        known(name, names[kind], f"python -m benchmarks list {kind}s")
