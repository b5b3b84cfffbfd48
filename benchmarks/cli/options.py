"""Flags that several commands share, each described once. Torch is imported only when a device is asked for."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.runner.environment import RunEnvironment

MOST = 256  # threads or processes that one run may be given: more are a typing error, and some systems crash
DEFAULT_LOG = "wandb"
FILE_KINDS = ("method", "fusion", "encoder", "dataset")


def positive(text: str) -> int:
    """A whole number of 1 or more, from the command line."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def thread_count(text: str) -> int:
    """A number of threads, from the command line."""
    if positive(text) > MOST:
        raise argparse.ArgumentTypeError(f"{text} threads are more than any run can use; at most {MOST}")
    return int(text)


def process_count(text: str) -> int:
    """A number of processes, 0 included, from the command line."""
    if not text.isdigit() or int(text) > MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {MOST}")
    return int(text)


def amount(text: str) -> float:
    """A number above 0, from the command line; fractions are allowed."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def add_settings(parser: argparse.ArgumentParser, text: str) -> None:
    """Add the settings, which are written name=value."""
    parser.add_argument("settings", nargs="*", metavar="name=value", help=text)


def add_results(parser: argparse.ArgumentParser, default: str, *, filled_in: bool = False) -> None:
    """Add ``--results``.

    Args:
        parser: The command's parser.
        default: The folder where records go if nothing is given.
        filled_in: Whether the command replaces what is in capitals in ``default``.
    """
    parser.add_argument(
        "--results",
        type=Path,
        default=None if filled_in else Path(default),
        help=f"where records go (default: {default})",
    )


def add_execution(parser: argparse.ArgumentParser) -> None:
    """Add how runs are carried out: what changes no number."""
    parser.add_argument(
        "--work", type=Path, default=Path(".work"), help="checkpoints and other temporary files (default: %(default)s)"
    )
    add_device(parser)
    parser.add_argument(
        "--threads",
        type=thread_count,
        default=1,
        help="threads of one run on a CPU; another number may change the last bits of a result (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=process_count, default=0, help="processes that load data, per run (default: 0)"
    )
    parser.add_argument("--debug", action="store_true", help="stop at the first number that is not finite")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the tables of a folder that another comparison or suite has made, and records that were made "
        "with other data or came out differently (default: refused)",
    )


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add how many runs are made at a time."""
    parser.add_argument(
        "--jobs",
        type=positive,
        help="runs at a time (default: one per core; on a cluster, as many as it has room for)",
    )


def add_dashboards(parser: argparse.ArgumentParser) -> None:
    """Add ``--log``."""
    parser.add_argument(
        "--log",
        default=DEFAULT_LOG,
        metavar="NAME[,NAME]",
        help="dashboards that get a copy of every run, in RESULTS/dashboards: wandb (offline unless WANDB_MODE says "
        "otherwise), tensorboard, mlflow, trackio; or none (default: %(default)s)",
    )


def require_dashboards(args: argparse.Namespace) -> None:
    """Check that the dashboards can be used, before anything is prepared. Raises ConfigError."""
    from benchmarks.callbacks.dashboards import chosen

    if not is_printing(args):
        chosen(args.log)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 (default: cuda where there is one)")


def add_files(parser: argparse.ArgumentParser, *, hidden: bool = False) -> None:
    """Add a flag for each kind of file of the user's own.

    Args:
        parser: The command's parser.
        hidden: Whether the help leaves them out, for a command that accepts and does not need them.
    """
    for kind in FILE_KINDS:
        parser.add_argument(
            f"--{kind}-file",
            type=Path,
            action="append",
            default=[],
            metavar="FILE.py",
            help=argparse.SUPPRESS
            if hidden
            else f"a {kind} of your own: one class in one file, known by the file's name; its code is run, so use none "
            "that you do not trust (may be repeated)",
        )


def files_of(args: argparse.Namespace) -> tuple[tuple[Any, Path], ...]:
    """The user's own files that a command line names: what each holds, and its path."""
    return tuple((kind, path) for kind in FILE_KINDS for path in getattr(args, f"{kind}_file", []))


def device_of(name: str) -> str:
    """The device that ``--device`` means, after a first tensor was put on it. Raises ConfigError if that fails."""
    import torch

    from benchmarks.config.run_config import ConfigError

    device = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError([f"--device {device}: {str(error).splitlines()[0]}"]) from None
    return device


def device_of_runs(args: argparse.Namespace) -> str:
    """The device of the runs. Machines of a cluster are not asked: there, ``auto`` is ``cuda`` with ``--gpus-per-run``.

    Raises:
        ConfigError: The device cannot be used.
    """
    if getattr(args, "executor", "local") not in ("ray", "slurm"):
        return device_of(args.device)
    from benchmarks.config.run_config import ConfigError

    if args.device not in ("auto", "cpu", "cuda"):
        raise ConfigError([f"--device {args.device}: on a cluster the engine chooses which GPU; give --device cuda"])
    if args.device == "cpu" and args.gpus_per_run is not None:
        raise ConfigError(["--device cpu: leave --gpus-per-run out"])
    if args.device == "auto":
        return "cpu" if args.gpus_per_run is None else "cuda"
    return str(args.device)


def is_printing(args: argparse.Namespace) -> bool:
    """Whether a command prints the command lines of its runs instead of making them."""
    return bool(getattr(args, "executor", "local") == "print")


def environment_of(args: argparse.Namespace, known: RunEnvironment | None = None) -> RunEnvironment:
    """Where and how the runs of a command are made.

    Args:
        args: The command line.
        known: The environment in which the command has looked up records: of which data these are is not asked again.

    Raises:
        OSError: A folder cannot be written to.
        ConfigError: The device or the engine cannot be used.
    """
    known = known or environment_to_read(args)
    if is_printing(args):
        return known
    from benchmarks.executors.engines import require_engine
    from benchmarks.runner.failures import require_writable

    require_engine(getattr(args, "executor", "local"))  # before anything is written

    require_writable(args.results)
    require_writable(args.work)
    return replace(known, device=device_of_runs(args))


def environment_to_read(args: argparse.Namespace) -> RunEnvironment:
    """As ``environment_of``, to look up what is recorded: nothing is written, and the device is not tried."""
    from benchmarks.runner.environment import RunEnvironment

    return RunEnvironment(
        args.results,
        args.work,
        args.device,
        args.threads,
        args.workers,
        args.debug,
        files_of(args),
        args.overwrite,
        getattr(args, "prepare_on_workers", False),
    )
