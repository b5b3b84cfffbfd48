"""The site's pages of methods, fusions, encoders and datasets, made from their classes and the committed results.

Each function returns the Markdown of one page. Links are written as from the folder ``docs/``, one level down: a page
stands in ``docs/methods/`` and so on. Nothing here knows MkDocs; ``hooks.py`` puts the pages into the site.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.cli.method_page import LEGEND, heading
from benchmarks.config import parts
from benchmarks.config.method_facts import described
from benchmarks.config.method_text import MethodText, method_text
from benchmarks.records.suite_file import read
from benchmarks.reporting.tables import EMPTY, format_number
from datasets.core.card_page import committed_results, page
from datasets.registry import DATASETS, card, option_table
from models.registry import ENCODERS, FAMILIES, FUSIONS
from ogm.registry import STRATEGIES, find

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference"
RANKED = ("compare-grid", "compare-synthav", "compare-mfeat", "compare-avmnist")  # tables with all methods
ITEM = re.compile(r"( *)(\d+\.|-) +(.*)", re.DOTALL)
INDENT = 3  # of a numbered list within another, in docstrings


def pages() -> dict[str, str]:
    """The place of each page below ``docs/`` -> its Markdown, in the order of the registries."""
    found = {f"methods/{name}.md": method_page(name) for name in STRATEGIES}
    found |= {f"fusions/{name}.md": fusion_page(name) for name in FUSIONS}
    found |= {f"encoders/{name}.md": encoder_page(name) for name in (*ENCODERS, *FAMILIES)}
    return found | {f"datasets/{name}.md": dataset_page(name) for name in DATASETS}


def method_page(name: str) -> str:
    """A method: idea, facts, steps, options, differences, references, and its rows in the committed comparisons."""
    cls, told = find(name, STRATEGIES, "method"), parts.facts("method", name)
    text = method_text(cls.__doc__)
    legend = dict(line.split(": ", 1) for line in LEGEND.splitlines()[:-1])
    rows = [(what, "; ".join(map(prose, lines))) for what, lines in described(told, name).items()]
    notes = [f"*{what}*: {prose(legend[what])}." for what, _ in rows if what in legend]
    return _joined(
        [f"# {heading(name, told)}", prose(text.idea), _table(("", ""), rows), " ".join(notes)],
        _section("Steps", [*steps(text.algorithm)]),
        _options(cls, text, "method_args"),
        _bullets("Paper, code and this suite", text.differences),
        ["Where each difference can be seen: [Paper and code](../paper_and_code.md)."] if text.differences else [],
        _bullets("References", text.references),
        _section("In the committed comparisons", _ranked(name)),
        _source(cls),
    )


def fusion_page(name: str) -> str:
    """A fusion: idea, steps, options, differences, references, and its rows in the committed comparison of fusions."""
    cls = find(name, FUSIONS, "fusion")
    text = method_text(cls.__doc__)
    rows = [
        ("from", prose(cls.source)),
        ("reads", {"features": "one feature per modality"}.get(cls.input_kind, f"the encoders' {cls.input_kind}")),
        ("logits", _logits(cls)),
    ]
    return _joined(
        [f"# {name}", prose(text.idea), _table(("", ""), rows)],
        _section("Steps", [*steps(text.algorithm)]),
        _options(cls, text, "fusion_args", "dims", "num_classes"),
        _bullets("Paper, code and this suite", text.differences),
        _bullets("References", text.references),
        _section("In the committed comparison", _fused(name)),
        _source(cls),
    )


def encoder_page(name: str) -> str:
    """An encoder, or a family of them from another library: idea, notes and options."""
    family = name in FAMILIES
    cls = find(name, FAMILIES if family else ENCODERS, "encoder")
    text = method_text(cls.__doc__)
    chosen = f"{name}:NAME" if family else name
    return _joined(
        [f"# {chosen}", prose(text.idea)],
        [f"From: {prose(cls.source)}."] if cls.source else [],
        [f"Chosen by `encoders.MODALITY={chosen}`."],
        _section("Notes", [*steps(text.algorithm)]),
        _options(cls, text, "encoder_args.MODALITY", "shape", "name"),
        _bullets("Paper, code and this suite", text.differences),
        _bullets("References", text.references),
        _source(cls),
    )


def dataset_page(name: str) -> str:
    """A dataset: its card, how samples are made, options, and the recipe of a run on it."""
    cls = find(name, DATASETS, "dataset")
    about = card(name)
    _, listed = page({name: about}).split(f"## {name}\n\n", 1)
    listed = listed.replace("](../", "](../../").replace("- **", "\n- **", 1)
    module = inspect.cleandoc(sys.modules[cls.__module__].__doc__ or "").partition("\n\n")[2]
    chosen = [(f"`dataset_args.{option}`", f"`{kind}`", f"`{default}`") for option, kind, default in option_table(cls)]
    recipe = [(f"`{setting}`", f"`{value}`") for setting, value in cls.training_recipe.items()]
    return _joined(
        [f"# {name}", listed.strip()],
        _section("How samples are made", [*steps(module)]),
        _section("Options", [_table(("option", "values", "default"), chosen)] if chosen else []),
        _section("Recipe of a run", [_table(("setting", "value"), recipe)]),
        [f"With Adam and AdamW the learning rate is `{cls.adaptive_lr}`."],
        _source(cls),
    )


def prose(text: str) -> str:
    """A sentence of a docstring as Markdown: its names stay code, and no sign of a formula becomes markup."""
    parts = re.split(r"(``.+?``|`[^`]+`|https?://[^\s;,)]+)", " ".join(text.split()))
    return "".join(_code(part) if i % 2 else re.sub(r"([*_\[\]\\|])", r"\\\1", part).replace("<", "&lt;")
                   for i, part in enumerate(parts))  # fmt: skip


def steps(text: str) -> Iterator[str]:
    """The paragraphs and lists of a docstring as Markdown blocks; a list within a list keeps its place."""
    for paragraph in re.split(r"\n\s*\n", text):
        lines: list[str] = []
        for item in re.split(r"\n(?= *(?:\d+\.|-) )", paragraph):
            match = ITEM.fullmatch(item)
            if match is None:
                lines.append(prose(item))
                continue
            indent, mark, words = match.groups()
            if len(lines) == 1 and not lines[0].lstrip().startswith(("- ", "1.")):
                lines.append("")  # a list does not begin within a paragraph
            lines.append(" " * 4 * (len(indent) // INDENT) + f"{mark} {prose(words)}")
        if any(line.strip() for line in lines):
            yield "\n".join(lines)


def _code(part: str) -> str:
    return f"<{part}>" if part.startswith("http") else f"`{part.strip('`')}`"


def _joined(*sections: list[str]) -> str:
    return "\n\n".join(block for section in sections for block in section if block) + "\n"


def _section(title: str, blocks: list[str]) -> list[str]:
    return [f"## {title}", *blocks] if blocks else []


def _bullets(title: str, lines: tuple[str, ...]) -> list[str]:
    return _section(title, ["\n".join(f"- {prose(line)}" for line in lines)] if lines else [])


def _options(cls: type[Any], text: MethodText, given_by: str, *given: str) -> list[str]:
    """The options of a constructor, but for those that the suite gives."""
    shown = {option.partition("=")[0]: option for option in parts.class_options(cls, *given)}
    lines = [
        f"- `{default}`: {prose(text.options[name])}" if name in text.options else f"- `{default}`"
        for name, default in shown.items()
    ]
    return _section("Options", ["\n".join(lines), f"Set by `{given_by}.NAME=VALUE`."] if lines else [])


def _source(cls: type[Any]) -> list[str]:
    path = f"{cls.__module__.replace('.', '/')}.py"
    return _section("Source", [f"[{path}](../../{path})"])


def _logits(cls: type[Any]) -> str:
    """What is known of how a fusion's logits come about."""
    if cls.is_additive:
        return f"the {'mean' if cls.is_mean else 'sum'} of one part per modality, exactly"
    return "no sum of parts; a modality's own logits are those with the other features at zero, or of heads of its own"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') if '`' in cell else cell for cell in line)} |"
                     for line in lines)  # fmt: skip


@functools.cache
def _rows_of(folder: str) -> Mapping[str, list[str]]:
    """Method -> its rows in the tables of a committed folder."""
    found: dict[str, list[str]] = {}
    suite = read(REFERENCE / folder)
    assert suite is not None, folder
    for row in (row for table in suite.suite.tables for row in table.rows):
        for method in {config.method for config in row.configs}:
            found.setdefault(method, []).append(row.label)
    return found


@functools.cache
def _numbers(folder: str, slug: str) -> pd.DataFrame:
    return pd.read_csv(REFERENCE / folder / "tables" / f"{slug}.csv").set_index("row")


def _ranked(name: str) -> list[str]:
    """The rows of a method in the tables of all methods."""
    lines = []
    for folder in RANKED:
        numbers = _numbers(folder, folder)
        complete = numbers["val_best_mean"].notna()
        link = f"[{folder}](../../results/reference/{folder}/README.md)"
        for label in _rows_of(folder).get(name, []):
            row = numbers.loc[label]
            if not complete[label]:
                lines.append((link, prose(label), EMPTY, f"no result: {row['state']}", EMPTY))
                continue
            accuracy = format_number(row["val_best_mean"], row["val_best_std"])
            lines.append((link, prose(label), f"{row['rank']:.0f} of {complete.sum()}", accuracy, difference(row)))
    if not lines:
        return ["None of the committed comparisons of all methods has it."]
    heads = ("results", "setting", "rank", "accuracy", "difference to joint training")
    note = ("Test accuracy in percent at the epoch that validation chose, ± standard deviation over draws or folds. "
            "Differences are in points, with their 95 % interval; in round brackets: the least and the greatest, "
            "where units are too few for an interval. A rank is one of a dataset, a recipe and defaults.")  # fmt: skip
    return [_table(heads, lines), note]


def _fused(name: str) -> list[str]:
    """What OGM-GE changes with a fusion."""
    lines = []
    for slug in ("fusions-synthav", "fusions-av-mnist"):
        numbers = _numbers("fusions", slug)
        for label in [label for label in numbers.index if re.fullmatch(rf"{name}(?: \(\w+\))?", label)]:
            pair = [numbers.loc[x] for x in (label, f"{label} + ogm_ge")]
            scores = [format_number(row["val_best_mean"], row["val_best_std"]) for row in pair]
            lines.append((slug.removeprefix("fusions-"), prose(label), *scores, difference(pair[1])))
    heads = ("data", "setting", "joint training", "with OGM-GE", "difference")
    source = "[fusions](../../results/reference/fusions/README.md)"
    return [_table(heads, lines), f"From {source}, where what the numbers mean is written."] if lines else []


def difference(row: pd.Series) -> str:
    """A paired difference in points, with its interval or, of few units, its range."""
    if pd.isna(row["difference_mean"]):
        return EMPTY
    kind, (left, right) = ("low", "high"), "[]"
    if pd.isna(row["difference_low"]):
        kind, (left, right) = ("least", "greatest"), "()"
    ends = ", ".join(format_number(row[f"difference_{end}"], sign=True) for end in kind)
    return f"{format_number(row['difference_mean'], sign=True)} {left}{ends}{right}"


def result_folders() -> list[str]:
    """The committed folders, those with a comparison of all methods first."""
    every = sorted({folder for folders in committed_results().values() for folder in folders})
    return [*RANKED, *(folder for folder in every if folder not in RANKED)]
