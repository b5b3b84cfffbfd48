"""The command line of the suite. Torch is imported when there is something to compute, not for --help."""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cli.execution import add_executor_flag, add_export_flag, add_log_flag

DESCRIPTION = """\
OGM-Bench: how to train several modalities together without one of them taking over.

What changes a number is written name=value; how it is carried out is a flag:

  python -m benchmarks run dataset=synthav method=ogm_ge method_args.alpha=0.8 fusion=film seed=1
  python -m benchmarks grid 'method=[vanilla, ogm_ge]' 'seed=[0, 1, 2]' --jobs 2
  python -m benchmarks compare methods=all dataset=synthav fusion=concat seeds=3
  python -m benchmarks reproduce --quick
  python -m benchmarks list methods
"""

RUN = """\
One run: train, evaluate, write one record. A run that is already recorded is read, not made again; one that was killed
goes on from its last epoch and ends with the same bits.

settings (name=value; dots go deeper; values are YAML):
  dataset=synthav  method=ogm_ge  fusion=film  seed=1      see: python -m benchmarks list methods|fusions|datasets
  method_args.alpha=0.8  dataset_args.preset=textbook      options of the method, the data, the fusion (fusion_args.)
  encoders.audio=cnn  encoder_args.audio.widths=[16,32]    per modality
  epochs= batch_size= optimizer=sgd|adam|adamw lr= momentum= weight_decay= schedule=constant|step|cosine
  lr_steps=[70] lr_factor=0.1 max_norm= micro_batch= precision=fp32|fp64|bf16
What is not given comes from the dataset's recipe and the method's defaults (benchmarks/config/method_defaults.py).

several processes on one run:
  python -m torch.distributed.run --nproc-per-node 2 -m benchmarks run dataset=synthav method=ogm_ge
"""


COMPARED = "results/compare/DATASET-FUSION-WORD"  # what is in capitals is filled in; the word is of what is compared
MOST = 256  # threads or processes that one run may be given: more are a slip of the finger, and some systems crash


def parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The whole command line, and each command's own part of it."""
    raw: Any = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser("python -m benchmarks", description=DESCRIPTION, formatter_class=raw)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, brief: str, text: str, *, settings: str = "", results: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=brief, description=text, formatter_class=raw)
        if settings:
            sub.add_argument("settings", nargs="*", metavar="name=value", help=settings)
        if results:
            default = None if results == COMPARED else Path(results)
            sub.add_argument("--results", type=Path, default=default, help=f"where records go (default: {results})")
            sub.add_argument(
                "--work",
                type=Path,
                default=Path(".work"),
                help="checkpoints and other passing things (default: %(default)s)",
            )
            sub.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
            sub.add_argument(
                "--threads",
                type=threads,
                default=1,
                help="threads of one run on a CPU; another number "
                "may change the last bits of a result (default: %(default)s)",
            )
            sub.add_argument("--workers", type=whole, default=0, help="processes that load data, per run (default: 0)")
            sub.add_argument("--debug", action="store_true", help="stop at the first number that is not finite")
            _overwrite(sub)
            _files(sub)
            add_log_flag(sub)
        return sub

    add_export_flag(command("run", "one run", RUN, settings="what the run is", results="results/runs"))
    jobs = {"type": positive, "default": max(os.cpu_count() or 1, 1), "help": "runs at a time (default: one per core)"}
    grid = command(
        "grid",
        "every combination of lists",
        "Every combination of what is given as a list; otherwise as "
        "`run`.\nRuns that are done are skipped; runs that fail are listed at the end (exit code 1).",
        settings="as for run; a list, such as 'seed=[0, 1]', is an axis; what is a list itself is written [[8, 8]]",
        results="results/grid",
    )
    grid.add_argument("--jobs", **jobs)
    add_executor_flag(grid)
    compare = command(
        "compare",
        "methods in one ranked table",
        "Methods with the same data, model and recipe, over "
        "seeds, in one table sorted by\nvalidation-selected accuracy.",
        settings="methods=all or methods=[ogm, ogm_ge], seeds=3, and as for run",
        results=COMPARED,
    )
    compare.add_argument("--jobs", **jobs)
    add_executor_flag(compare)
    reproduce = command(
        "reproduce",
        "a suite of tables, figures and records",
        "The tables of a suite: records, runs.csv, tables (CSV, Markdown, LaTeX), figures, a report.",
        results="",
    )
    reproduce.add_argument(
        "--suite", default="paper", help="see: python -m benchmarks list suites (default: %(default)s)"
    )
    reproduce.add_argument("--datasets", default="", help="comma-separated (default: every one that is ready)")
    reproduce.add_argument("--seeds", type=positive, help="training seeds per row (default: the suite's)")
    reproduce.add_argument("--quick", action="store_true", help="a shortened run, marked as such in every table")
    reproduce.add_argument(
        "--results", type=Path, help="where records and tables go (default: results/SUITE, or results/SUITE-quick)"
    )
    reproduce.add_argument("--work", type=Path, default=Path(".work"), help="checkpoints (default: %(default)s)")
    reproduce.add_argument("--device", default="auto", help="cpu, cuda (default: cuda where there is one)")
    reproduce.add_argument("--threads", type=threads, default=1, help="threads of one run (default: %(default)s)")
    reproduce.add_argument("--workers", type=whole, default=0, help="processes that load data, per run (default: 0)")
    reproduce.add_argument("--debug", action="store_true", help="stop at the first number that is not finite")
    _overwrite(reproduce)
    reproduce.add_argument("--jobs", **jobs)
    add_executor_flag(reproduce)
    add_log_flag(reproduce)
    tables = command(
        "tables",
        "tables and figures again, from records alone",
        "Makes runs.csv, tables, figures and the report of a results folder again. Nothing is trained.",
    )
    _files(tables)
    tables.add_argument("folder", type=Path, help="a folder that reproduce or compare made, such as results/paper")
    bench = command(
        "bench",
        "time and memory of a step of every method",
        "Step time and peak memory of every method, as "
        "ratios to vanilla, with two ResNet-18s at\nCREMA-D's shapes. The methods take turns in one run.",
    )
    bench.add_argument("--device", default="auto", help="cpu, cuda (default: cuda where there is one)")
    bench.add_argument("--data", action="store_true", help="instead: prepared data against files read per sample")
    bench.add_argument("--clips", type=positive, help="with --data: samples of the generated set (default: 7442)")
    listing = command("list", "what there is", "The names that settings take, one line each.")
    _files(listing)
    listing.add_argument("what", choices=["methods", "fusions", "encoders", "datasets", "suites"])
    return top, commands.choices


def _overwrite(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the tables of a folder that another comparison or suite has made, and records that were made "
        "with other data or came out differently (default: refused)",
    )


def _files(sub: argparse.ArgumentParser) -> None:
    for kind in ("method", "fusion", "encoder"):
        sub.add_argument(
            f"--{kind}-file",
            type=Path,
            action="append",
            default=[],
            metavar="FILE.py",
            help=f"a {kind} of your own: one class in one file, known by the file's name; its code is run, so use none "
            "that you do not trust (may be repeated)",
        )


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def threads(text: str) -> int:
    if positive(text) > MOST:
        raise argparse.ArgumentTypeError(f"{text} threads are more than any run can use; at most {MOST}")
    return int(text)


def whole(text: str) -> int:
    if not text.isdigit() or int(text) > MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {MOST}")
    return int(text)


class Stopped(KeyboardInterrupt):
    """This program was told to end, by a signal other than ctrl-C's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP end this program as ctrl-C does, unless it was started so that they mean nothing (nohup)."""

    def stop(number: int, frame: object) -> None:
        raise Stopped(number)

    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    mine = [n for n, handler in before.items() if handler == signal.SIG_DFL]
    for number in mine:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def read(argv: Sequence[str]) -> argparse.Namespace:
    """What is asked for. Settings and flags may be mixed, which argparse allows a command only by itself."""
    top, commands = parser()
    if not argv or argv[0] not in commands:
        return top.parse_args(argv)
    return commands[argv[0]].parse_intermixed_args(argv[1:], argparse.Namespace(command=argv[0]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0 done, 1 some runs failed, 2 bad input (one line per mistake), 128 + a signal."""
    args = read(sys.argv[1:] if argv is None else argv)
    from benchmarks.config.run_config import ConfigError

    files = [(kind, f) for kind in ("method", "fusion", "encoder") for f in getattr(args, f"{kind}_file", [])]
    try:
        with stoppable():
            if files:
                from benchmarks.config.user_files import register

                register(files)
                args.files = tuple(files)
            return COMMANDS[args.command](args)
    except ConfigError as error:
        mistakes = error.mistakes
    except OSError as error:
        mistakes = [f"{error.filename or args.command}: {error.strerror or error}"]
    except (ValueError, FloatingPointError) as error:  # DataError, CorruptFileError, a broken record: one line each
        mistakes = [" ".join(str(error).split())]
    except KeyboardInterrupt as stop:
        say("\nstopped; the same command goes on where this one was")
        return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)
    for mistake in mistakes:
        say(f"error: {mistake}")
    return 2


def say(line: str) -> None:
    """To whoever sits at the terminal; of several processes on one run, the first one speaks for all."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr)


def _device(name: str) -> str:
    """The device that is meant, tried out. Raises ConfigError."""
    import torch

    from benchmarks.config.run_config import ConfigError

    device = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError([f"--device {device}: {str(error).splitlines()[0]}"]) from None
    return device


def _environment(args: argparse.Namespace, group: str = "") -> Any:
    from benchmarks.runner.environment import RunEnvironment
    from benchmarks.runner.failures import require_writable

    printing = _printing(args)
    if not printing:
        require_writable(args.results)
        require_writable(args.work)
    return RunEnvironment(
        args.results,
        args.work,
        args.device if printing else _device(args.device),
        args.threads,
        args.workers,
        group,
        args.debug,
        getattr(args, "files", ()),
        args.overwrite,
    )


def _printing(args: argparse.Namespace) -> bool:
    """Are command lines asked for instead of runs?"""
    return bool(getattr(args, "executor", "local") == "print")


def _run(args: argparse.Namespace) -> int:
    from benchmarks.config.run_config import configure, parse

    config = configure(parse(args.settings))
    from benchmarks.callbacks.base import Callbacks
    from benchmarks.callbacks.progress import summary
    from benchmarks.cli.execution import callbacks_of
    from benchmarks.runner.distributed import ranks
    from benchmarks.runner.experiment import resolve
    from benchmarks.runner.failures import run_or_record_fault

    with ranks(args.device) as rank:
        environment, experiment = _environment(args), resolve(config)
        if rank == 0:
            _say_reused([experiment], environment)
        with callbacks_of(args, environment) if rank == 0 else Callbacks([]) as callbacks:
            record = run_or_record_fault(experiment, environment, export=args.export_weights, on_event=callbacks.on)
        if rank == 0:
            print(f"{config.title}: {summary(record)}")
            print(record.path(environment.results))
    return 0 if record.status == "done" else 1


def _grid(args: argparse.Namespace) -> int:
    from benchmarks.config.run_config import parse
    from benchmarks.config.suite import expand

    configs = expand(parse(args.settings))
    from benchmarks.cli.execution import carry_out, print_commands
    from benchmarks.runner.experiment import resolve_all

    experiments = resolve_all(configs)
    if _printing(args):
        print_commands(experiments, _environment(args))
        return 0
    _prepare(configs)
    environment = _environment(args, args.results.name)
    _say_reused(experiments, environment)
    return _ending(carry_out(experiments, environment, args))


def _say_reused(experiments: Sequence[Any], environment: Any) -> None:
    """Which of these runs will not be made, being recorded already, and where those records come from."""
    found = [record for experiment in experiments if (record := environment.finished(experiment)) is not None]
    if found:
        places = {(r.provenance.get("device", "unknown"), r.provenance.get("commit", "unknown")[:12]) for r in found}
        origin = "; ".join(f"{device}, commit {commit}" for device, commit in sorted(places))
        print(f"{len(found)} of {len(experiments)} runs are already recorded ({origin}): reused")


def _compare(args: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from benchmarks.config.run_config import ConfigError, explain, parse
    from benchmarks.config.suite import competing
    from benchmarks.records.suite_file import Comparison

    given = parse(args.settings)
    methods, seeds = given.pop("methods", "all"), given.pop("seeds", 3)
    methods = [methods] if isinstance(methods, str) else methods
    if not isinstance(methods, list):
        raise ConfigError([f"methods={methods!r}: names of methods, such as methods=[ogm, ogm_ge], or all"])
    methods = competing([m for part in methods for m in str(part).split(",")])
    try:
        asked = Comparison(given=given, methods=methods, seeds=seeds)
    except ValidationError as error:
        raise ConfigError([explain(e, Comparison.model_fields) for e in error.errors()]) from None
    suite = asked.suite()
    args.results = args.results or asked.folder()
    if not _printing(args):
        _prepare(suite.configs())
    return _carry_out(suite, asked, args)


def _reproduce(args: argparse.Namespace) -> int:
    from benchmarks.config.suite import load
    from benchmarks.records.suite_file import Recipe
    from datasets.registry import getting, prepare, ready

    named = [name for name in args.datasets.split(",") if name]
    suite = load(args.suite, datasets=named, seeds=args.seeds, quick=args.quick)
    here = []
    for name, variants in suite.data().items():
        if name in named and not _printing(args):
            for variant in variants:
                prepare(name, variant)
        if all(ready(name, variant) for variant in variants):
            here.append(name)
        else:
            print(f"{name} is not here, so its tables are left out; to get it: {getting(name)}", file=sys.stderr)
    asked = Recipe(name=args.suite, datasets=here, seeds=args.seeds, quick=args.quick)
    args.results = args.results or asked.folder()
    return _carry_out(asked.suite(), asked, args)


def _carry_out(suite: Any, asked: Any, args: argparse.Namespace) -> int:
    """Make the runs that are asked for, then everything people read, with what the folder has already."""
    from benchmarks.callbacks.wandb import log_report
    from benchmarks.cli.execution import carry_out, print_commands
    from benchmarks.records.suite_file import Comparison, claim
    from benchmarks.runner.experiment import resolve_all

    experiments = resolve_all(suite.configs())
    environment = _environment(args, suite.name)
    if _printing(args):
        print_commands(experiments, environment)
        return 0
    whole = claim(args.results, asked, overwrite=args.overwrite).suite()
    _say_reused(experiments, environment)
    records = carry_out(experiments, environment, args)

    from benchmarks.reporting.report import show, write

    paths = write(whole, args.results)
    if isinstance(asked, Comparison):
        show(whole, args.results)
    log_report(whole.name, whole.title, paths, environment.work / "wandb")
    for path in paths:
        if path.suffix == ".md":
            print(path)
    return _ending(records)


def _prepare(configs: Sequence[Any]) -> None:
    """Make the data of these runs ready from the files that are there. Raises DataError, which says how to get them."""
    from benchmarks.config.suite import data_of
    from datasets.registry import prepare

    for name, variants in data_of(configs).items():
        for variant in variants:
            prepare(name, variant)


def _ending(records: Sequence[Any]) -> int:
    bad = [r for r in records if r.status in ("failed", "diverged")]
    refused = [r for r in records if r.status == "skipped"]
    done = sum(r.status == "done" for r in records)
    print(f"{len(records)} runs: {done} done, {len(refused)} refused, {len(bad)} not made")
    from benchmarks.config.run_config import RunConfig

    for record in [*refused, *bad]:
        print(f"  {record.status}: {RunConfig(**record.config).title}: {record.reason}", file=sys.stderr)
    return 1 if bad else 0


def _tables(args: argparse.Namespace) -> int:
    from benchmarks.config.run_config import ConfigError
    from benchmarks.records.suite_file import read
    from benchmarks.reporting.report import write

    made = read(args.folder)
    if made is None:
        raise ConfigError([f"{args.folder}: no suite.json, so this is no folder that reproduce or compare made"])
    for path in write(made.asked.suite(), args.folder):
        print(path)
    return 0


def _list(args: argparse.Namespace) -> int:
    from benchmarks.config.suite import FOLDER, names
    from datasets.registry import DATASETS

    if args.what == "suites":
        for name in names():
            print(f"{name:<24} {(FOLDER / f'{name}.yaml').read_text().splitlines()[0].lstrip('# ')}")
        return 0
    if args.what in ("methods", "fusions", "encoders"):
        from benchmarks.cli import listing

        getattr(listing, args.what)()
        return 0
    for name, where in DATASETS.items():
        path = Path(__file__).parents[1].joinpath(*where.partition(":")[0].split(".")).with_suffix(".py")
        print(f"{name:<24} {(ast.get_docstring(ast.parse(path.read_text())) or '').splitlines()[0]}")
    return 0


def _bench(args: argparse.Namespace) -> int:
    if args.data:
        from benchmarks.speed.loading import CLIPS, bench_data

        bench_data(args.clips or CLIPS)
        return 0
    if args.clips:
        raise ValueError("--clips belongs to --data: say both")
    import torch

    from benchmarks.speed.steps import bench

    torch.set_num_threads(os.cpu_count() or 1)
    bench(_device(args.device))
    return 0


COMMANDS = {
    "run": _run,
    "grid": _grid,
    "compare": _compare,
    "reproduce": _reproduce,
    "tables": _tables,
    "bench": _bench,
    "list": _list,
}

if __name__ == "__main__":
    sys.exit(main())
