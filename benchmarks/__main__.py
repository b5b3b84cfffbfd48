"""The command line of the benchmarks: which command is meant, and how its errors are told.

Each command is a module of ``benchmarks.cli``. Torch is imported when there is something to compute, not for --help.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

from benchmarks.cli import agree, bench, check, cite, compare, grid, pack, page, reproduce, run, show, tables, tune
from benchmarks.cli import list as list_names
from benchmarks.cli.options import files_of
from benchmarks.cli.signals import Terminated, raise_on_signals

DESCRIPTION = """\
OGM-Bench: how to train several modalities together without one of them taking over.

What changes a number is written name=value; how it is carried out is a flag:

  python -m benchmarks run dataset=synthav method=ogm_ge method_args.alpha=0.8 fusion=film seed=1
  python -m benchmarks grid 'method=[vanilla, ogm_ge]' 'seed=[0, 1, 2]' --jobs 2
  python -m benchmarks compare methods=all dataset=synthav fusion=concat seeds=3
  python -m benchmarks tune methods=all dataset=synthav trials=8
  python -m benchmarks reproduce --quick
  python -m benchmarks list methods
  python -m benchmarks cite method=ogm_ge dataset=crema_d

.venv/bin/ogm-bench, which make setup links, is the same from any folder: results and files that a command names are
those of the folder where it is given, downloaded data those of this clone (OGM_DATA, OGM_CACHE).
"""
COMMANDS: Mapping[str, ModuleType] = {
    "run": run,
    "grid": grid,
    "compare": compare,
    "tune": tune,
    "reproduce": reproduce,
    "tables": tables,
    "page": page,
    "show": show,
    "pack": pack,
    "check": check,
    "agree": agree,
    "bench": bench,
    "list": list_names,
    "cite": cite,
}


def parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser of the whole command line, and each command's own."""
    top = argparse.ArgumentParser(
        "python -m benchmarks", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(
            commands.add_parser(
                name,
                help=command.BRIEF,
                description=command.DESCRIPTION,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    return top, commands.choices


def read(argv: Sequence[str]) -> argparse.Namespace:
    """What a command line says. Settings and flags may be mixed, which argparse allows only within one command."""
    top, commands = parser()
    if not argv or argv[0] not in commands:
        return top.parse_args(argv)
    return commands[argv[0]].parse_intermixed_args(argv[1:], argparse.Namespace(command=argv[0]))


def main(argv: Sequence[str] | None = None) -> int:
    """Execute a command.

    Args:
        argv: The command line without the program's name; by default this process's own.

    Returns:
        The exit code: 0 done, 1 some runs failed, 2 bad input (one line per mistake), 128 + a signal's number.
    """
    args = read(sys.argv[1:] if argv is None else argv)
    from benchmarks.config.run_config import ConfigError

    try:
        with raise_on_signals():
            if files_of(args):
                from benchmarks.config.user_files import register

                register(files_of(args))
            code: int = COMMANDS[args.command].execute(args)
            return code
    except ConfigError as error:
        mistakes = error.mistakes
    except OSError as error:
        mistakes = [f"{error.filename or args.command}: {error.strerror or error}"]
    except (ValueError, FloatingPointError) as error:  # of data, checkpoints and records: one line each
        mistakes = [" ".join(str(error).split())]
    except KeyboardInterrupt as stop:
        _print_error("\nstopped; the same command goes on where this one was")
        return 128 + (stop.number if isinstance(stop, Terminated) else signal.SIGINT)
    for mistake in mistakes:
        _print_error(f"error: {mistake}")
    return 2


def _print_error(line: str) -> None:
    """To the terminal, once: of several processes on one run, the first one prints for all."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
