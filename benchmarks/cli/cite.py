"""The command ``cite``: what to cite, as BibTeX."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from pathlib import Path

from benchmarks.cli.options import add_settings

BRIEF = "what to cite, as BibTeX"
DESCRIPTION = """\
Prints the BibTeX entries of methods and data sets; without names, that of this suite.

  python -m benchmarks cite
  python -m benchmarks cite method=ogm_ge,umt dataset=crema_d
"""
FILE = Path(__file__).parents[1] / "config" / "citations.bib"
SUITE = "suite"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's settings."""
    add_settings(parser, "method=NAME,NAME and dataset=NAME,NAME")


def execute(args: argparse.Namespace) -> int:
    """Print the entries. Returns the exit code."""
    from benchmarks.cli.terminal import show

    show(["\n\n".join(entries_of(asked(args.settings) or [SUITE]))])
    return 0


def asked(settings: Collection[str]) -> list[str]:
    """The names that a command line asks for, each as ``kind:name``. Raises ConfigError with all mistakes."""
    from benchmarks.config.run_config import ConfigError, known
    from datasets.registry import DATASETS
    from ogm.registry import STRATEGIES, nearest

    registries = {"method": STRATEGIES, "dataset": DATASETS}
    names, mistakes = [], []
    for setting in settings:
        kind, equals, given = setting.partition("=")
        if not equals or kind not in registries:
            hint = nearest(kind, registries, "it is method=NAME or dataset=NAME")
            mistakes.append(f"{setting!r}: there is nothing to cite{hint}")
            continue
        for name in given.strip("[]").split(","):
            try:
                known(name.strip(), registries[kind], f"python -m benchmarks list {kind}s")
            except ValueError as error:
                mistakes.append(f"{kind}: {error}")
            names.append(f"{kind}:{name.strip()}")
    if mistakes:
        raise ConfigError(mistakes)
    return names


def entries_of(names: Collection[str]) -> list[str]:
    """The entries of methods and data sets, each once, in the order of the file.

    Args:
        names: Each as ``kind:name``, or ``suite``.

    Returns:
        Each entry in BibTeX, without the field that says whose it is.
    """
    found = []
    for entry in re.findall(r"^@.*?^}", FILE.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        uses = re.search(r"^  keywords = {(.*)},\n", entry, re.MULTILINE)
        if uses and set(uses[1].split(", ")) & set(names):
            found.append(entry.replace(uses[0], ""))
    return found
