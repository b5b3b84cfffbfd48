"""All fusions, encoders, datasets and suites in short, as ``python -m benchmarks list`` prints them."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping

from benchmarks.config.parts import facts
from models.registry import ENCODERS, FAMILIES, FUSIONS

_FUSIONS = """\
needs: of the encoders; every one of ours gives maps and tokens, torchvision's and timm's give features only
additive: the fused logits are the sum or mean of the unimodal ones
unimodal logits: where scores and curves come from
parameters: of all but the encoders, for two ResNet-18s (512 wide) and six classes
options are set with fusion_args.NAME=VALUE; one fusion in full: python -m benchmarks list fusions NAME"""

_ENCODERS = """\
audio, visual: parameters for CREMA-D's spectrogram (1, 257, 188) and frames (3, T, 224, 224); -: not for such inputs
gives: what fusions can get of it
weights: initialised from scratch, from ImageNet's (weights=imagenet) or from a file (weights=PATH)
chosen with encoders.MODALITY=ID, options set with encoder_args.MODALITY.NAME=VALUE
one encoder in full: python -m benchmarks list encoders NAME"""


def fusions() -> Iterator[str]:
    """Every fusion: id, needs, additive or not, unimodal logits, parameters, source, defaults."""
    columns = ("needs", "additive", "unimodal logits", "parameters", "source", "defaults")
    yield from _table(columns, {name: facts("fusion", name) for name in FUSIONS})
    yield from _FUSIONS.splitlines()


def encoders() -> Iterator[str]:
    """Every encoder: id, inputs it takes with its parameters there, what it gives, weights, source, defaults."""
    told = {name: facts("encoder", name) for name in ENCODERS}
    told |= {f"{family}:NAME": facts("encoder family", family) for family in FAMILIES}
    yield from _table(("audio", "visual", "gives", "weights", "source", "defaults"), told)
    yield from _ENCODERS.splitlines()


def datasets() -> Iterator[str]:
    """Each as ``python -m datasets list`` shows it; of a file of the user's own, the first line of its docstring."""
    from datasets.core.card_page import committed_results, for_terminal
    from datasets.registry import DATASETS, card

    results = committed_results()
    for name in DATASETS:
        about = own_docstring(name)
        if about is not None:
            yield f"{name:<17}{about.splitlines()[0]}"
        else:
            yield from for_terminal(name, card(name), results).splitlines()
        yield ""
    yield "one data set in full: python -m benchmarks list datasets NAME"


def own_docstring(dataset: str) -> str | None:
    """What a dataset from a file of the user's own says of itself; None for the datasets of this suite."""
    from benchmarks.config.run_config import FILES
    from datasets.registry import DATASETS

    return (sys.modules[DATASETS[dataset].partition(":")[0]].__doc__ or "-") if dataset in FILES else None


def suites() -> Iterator[str]:
    """Each with the first line of its file."""
    from benchmarks.config.suite import FOLDER, names

    for name in names():
        yield f"{name:<24} {(FOLDER / f'{name}.yaml').read_text('utf-8').splitlines()[0].lstrip('# ')}"
    yield "one suite in full: python -m benchmarks list suites NAME"


def _table(columns: Iterable[str], rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A table as wide as the terminal; with whole lines, for grep and files, where there is none."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False)
    table.add_column("id", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right" if name in ("parameters", "audio", "visual") else "left")
    for name, row in rows.items():
        table.add_row(name, *(" ".join(row[column].splitlines()) for column in columns))
    text = io.StringIO()
    Console(file=text, width=shutil.get_terminal_size().columns if sys.stdout.isatty() else 200).print(table)
    return [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]
