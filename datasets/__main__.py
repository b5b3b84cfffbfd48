"""The command line of the datasets: python -m datasets list | info | download | scan | prepare | verify."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.core.card_page import committed_results, for_terminal
from datasets.core.class_folders import scan, summary, write_csv
from datasets.core.files import one_line
from datasets.core.paths import cache_folder, raw_folder
from datasets.core.progress import bar
from datasets.core.settings import read_settings
from datasets.registry import DATASETS, card
from ogm.registry import find

if TYPE_CHECKING:
    from datasets.core.base import DataModule

EXAMPLES = """
examples:
  python -m datasets list                                 what there is, and what of it is ready
  python -m datasets download avmnist                     fetch it (33 MB) into data/avmnist
  python -m datasets prepare avmnist preset=mel32         decode it once into data/prepared/avmnist
  python -m datasets download crema_d                     fetch it (3.0 GB) into data/crema_d, without git or git-lfs
  python -m datasets download crema_d --only audio        its recordings alone (0.6 GB)
  python -m datasets info crema_d                         where it comes from, its licence, its quirks
  python -m datasets prepare crema_d split=speaker_independent max_missing=3
  python -m datasets verify avmnist preset=mel32          read every prepared byte again
  python -m datasets scan clips                           your own data: clips/CLASS/NAME.wav -> clips/manifest.csv

Raw files are looked for in $OGM_DATA (data), prepared ones are kept in $OGM_CACHE (data/prepared).
Every command may be repeated: it goes on where it was stopped and leaves alone what is done.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0 done, 2 bad input or a bad disk (one line), 128 + signal where one ended it."""
    args = _parser().parse_args(argv)
    try:
        with _ended_by_signals():
            return int(args.run(args) or 0)
    except ValueError as error:  # DataError, unknown names and arguments: one line each
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 128 + (error.number if isinstance(error, _Ended) else signal.SIGINT)


class _Ended(KeyboardInterrupt):
    """What ends a command besides ctrl-C: a batch system, or a terminal that is closed."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Meanwhile these signals end a command as ctrl-C does. A command that ``nohup`` started goes on without it."""

    def end(number: int, _: object) -> None:
        raise _Ended(number)

    default = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) == signal.SIG_DFL]
    for one in default:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one in default:
            signal.signal(one, signal.SIG_DFL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datasets",
        description="Get, prepare and check datasets.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run: Any, what: str, takes: bool = True) -> argparse.ArgumentParser:
        name = run.__name__.strip("_")
        one = commands.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.set_defaults(run=run)
        if takes:
            one.add_argument("name", metavar="NAME", help=f"one of: {', '.join(DATASETS)}")
        return one

    command(_list, "what there is, and what of it is ready", takes=False)
    download = command(_download, "fetch what may be fetched, and say what else to get")
    download.add_argument("--base", metavar="URL", help="take the files from under this address instead")
    download.add_argument("--only", metavar="MODALITY", help="fetch one modality alone; crema_d: audio or visual")
    of_folders = command(_scan, "write clips/manifest.csv of folders that are classes, for `manifest`", takes=False)
    of_folders.add_argument(
        "folder", metavar="FOLDER", type=Path, help="holds CLASS/NAME.wav and so on, or train/CLASS/..."
    )
    of_folders.add_argument("--overwrite", action="store_true", help="replace a manifest.csv that is there")
    for run, what in (
        (_info, "where it comes from, licence, quirks, samples per split and class"),
        (_prepare, "decode it once, so that every run can start at once"),
        (_verify, "read every prepared byte again and compare with what was written"),
    ):
        command(run, what).add_argument("args", nargs="*", metavar="KEY=VALUE", help="arguments, such as preset=mel32")
    return parser


def _class(name: str) -> Any:
    return find(name, DATASETS, "dataset")


def _settings(words: Sequence[str]) -> dict[str, Any]:
    """The options of a dataset. Raises ValueError for words that are no settings."""
    values, mistakes = read_settings(words, "preset=mel32")
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return values


def _list(args: argparse.Namespace) -> None:
    results = committed_results()
    print("\n\n".join(for_terminal(name, card(name), results) for name in DATASETS))


def _info(args: argparse.Namespace) -> None:
    kind, given = _class(args.name), _settings(args.args)
    if _embedded(kind) or kind.ready(**given):
        samples = _counts(kind.module(**given), per_class=True)
    else:
        samples = [f"not prepared this way; `python -m datasets prepare {' '.join([args.name, *args.args])}` does it"]
    facts = kind.card
    print(f"{args.name}: {facts.title}")
    for title, lines in (
        ("classes", [str(facts.classes)]),
        ("modalities", [", ".join(facts.modalities)]),
        ("size", [facts.size]),
        ("preparation", [facts.preparation]),
        ("a run on CPU", [facts.run_on_cpu]),
        ("a run on GPU", [facts.run_on_gpu]),
        ("results here", committed_results().get(args.name, ["none committed"])),
        ("state", [facts.state(args.name)]),
        ("raw files", [str(raw_folder(args.name))]),
        ("prepared", [str(cache_folder(args.name))]),
        ("licence", [facts.licence]),
        ("citation", [facts.citation]),
        ("how to get it", [facts.how_to_get]),
        ("quirks", facts.quirks),
        ("example", facts.example),
        ("lists", kind.describe_lists(kind.options(given)) if hasattr(kind, "describe_lists") else []),
        ("information", kind.describe_information(**given) if hasattr(kind, "describe_information") else []),
        ("samples", samples),
    ):
        for number, line in enumerate(lines):
            print(f"  {'' if number else title:15}{line}")


def _counts(module: DataModule, per_class: bool = False) -> list[str]:
    lines = []
    for part, dataset in module.splits().items():
        report = dataset.report
        line = f"{part}: {report.found} of {report.listed}"
        if per_class:
            line += f" ({', '.join(f'{name} {count}' for name, count in report.per_class.items())})"
        lines.append(line + "".join(f"; {name} {count}" for name, count in report.notes.items()))
    return lines


def _download(args: argparse.Namespace) -> None:
    kind = _class(args.name)
    if _embedded(kind):
        print(f"{args.name} is generated: there is nothing to download")
        return
    folders = getattr(kind, "media_folders", {})
    if args.only and args.only not in folders:
        takes = f"--only takes {' or '.join(folders)}" if folders else "it is fetched whole, without --only"
        raise ValueError(f"{args.name}: {args.only!r} cannot be fetched alone; {takes}")
    with bar() as progress:
        left = kind.download(args.base, progress, **({"only": args.only} if args.only else {}))
    print(left or f"{args.name} is in {raw_folder(args.name)}; now run `python -m datasets prepare {args.name}`")


def _scan(args: argparse.Namespace) -> None:
    found, path = scan(args.folder), args.folder / "manifest.csv"
    write_csv(found, path, args.overwrite)
    print(*summary(found, path), sep="\n")


def _prepare(args: argparse.Namespace) -> None:
    kind, given = _class(args.name), _settings(args.args)
    if _embedded(kind):
        kind.module(**given)
        print(f"{args.name} is generated: there is nothing to prepare")
        return
    print(f"{args.name} is prepared in {kind.prepare(**given)}")
    print(*_counts(kind.module(**given)), sep="\n")


def _verify(args: argparse.Namespace) -> None:
    kind, given = _class(args.name), _settings(args.args)
    if _embedded(kind):
        print(f"{args.name} is generated: there is nothing to verify")
        return
    cache = kind.open(kind.options(given))
    with bar() as progress:
        cache.verify(progress)
    size = sum(facts["size"] for facts in cache.manifest["files"].values())
    print(f"{cache.folder}: {len(cache.manifest['files'])} files, {size / 1e6:.1f} MB, all as they were written")
    if hasattr(kind, "describe"):
        print(*kind.describe(kind.options(given)), sep="\n")


def _embedded(kind: Any) -> bool:
    return not hasattr(kind, "prepare")


if __name__ == "__main__":
    sys.exit(main())
