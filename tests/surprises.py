"""The page docs/surprises.md, from docs/surprises.yaml and the records: ``python -m tests.surprises`` writes it anew.

An entry is a method that is more than two points below joint training on one of the data, or above the ensemble
``ume``; a suspect; and an experiment that takes the suspect away: a row of the suite ``surprises`` or its like, the
same runs read by another rule of prediction, or rows of the comparison that have parts of the method. What the
experiment says of the suspect is decided here, by numbers.
"""

from __future__ import annotations

import functools
import math
import re
import statistics
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from benchmarks.reporting.statistics import Summary, paired
from benchmarks.reporting.tables import format_number
from tests.readme_parts import REFERENCE, Results, fill_lines, interval, listed, table

ROOT = REFERENCE.parents[1]
SOURCE, PAGE = ROOT / "docs" / "surprises.yaml", ROOT / "docs" / "surprises.md"
COMPARED = {"grid": "GRID words", "synthav": "SynthAV", "mfeat": "mfeat", "avmnist": "AV-MNIST"}
TESTED = {  # the folder and the table of the experiments
    "grid": ("surprises", "recordings-grid"),
    "synthav": ("surprises", "generated-synthav"),
    "mfeat": ("surprises", "views-mfeat"),
    "avmnist": ("surprises-avmnist", "speakers-av-mnist"),
}  # tables of the suite
LOST = 2.0  # points below joint training
ALL, MOST, SOME = 0.8, 0.5, 0.2  # shares of a loss that an experiment gives back
BRANCHES = ("only", "vanilla")
LONGER = ", 60 epochs"
LEAST_SHOWN = 0.05  # of a curve, with two decimals
PLACE = re.compile(r"\{(\w+)\s+([^}]+)\}")


class Entry(BaseModel):
    """Why a method loses on one of the data.

    Attributes:
        method: Its row in the comparison.
        data: A key of COMPARED.
        why: The suspect. ``{last CURVE}``, ``{branch MODALITY}``, ``{accuracy ROW}`` and so on are filled in.
        row: The row of the suite in which it is taken away.
        rule: The rule of prediction by which the method's own runs are read instead.
        parts: Rows of the comparison that have one part of the method each.
        then: What follows from the outcome.
        again: The row of the suite ``surprises_again`` in which a second suspect is taken away.
    """

    model_config = ConfigDict(extra="forbid")

    method: str
    data: Literal["grid", "synthav", "mfeat", "avmnist"]
    why: str
    row: str = ""
    rule: str = ""
    parts: list[str] = []
    then: str = ""
    again: str = ""

    @model_validator(mode="after")
    def _one_experiment(self) -> Entry:
        if bool(self.row) + bool(self.rule) + bool(self.parts) != 1:
            raise ValueError(f"{self.method} on {self.data}: say one of row, rule and parts")
        return self


class Source(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    intro: str
    entries: list[Entry]


@functools.cache
def source() -> Source:
    return Source.model_validate(yaml.safe_load(SOURCE.read_text("utf-8")))


def entries() -> list[Entry]:
    return source().entries


@functools.cache
def results(folder: str) -> Results:
    return Results(folder)


def comparison(data: str) -> tuple[Results, str]:
    """The comparison of all methods on one of the data, and the slug of its table."""
    found = results(f"compare-{data}")
    (slug,) = found.tables
    return found, slug


def surprising(data: str) -> list[str]:
    """The methods that are to be explained: more than LOST points below joint training, or above ``ume``.

    Where ``ume`` is below joint training itself, it is what has to be explained, and not who is above it.
    """
    found, slug = comparison(data)
    numbers = found.rows(slug)[0]
    below = [x for x in numbers.index if numbers.loc[x, "difference_mean"] < -LOST and not x.endswith(BRANCHES)]
    scores = numbers["val_best_mean"]
    above = [] if "ume" in below else [x for x in numbers.index if scores[x] > scores["ume"] + LOST]
    return above + below


def default_difference(entry: Entry) -> Summary:
    found, slug = comparison(entry.data)
    return found.between(slug, entry.method, "vanilla")


def outcomes(entry: Entry) -> dict[str, Summary]:
    """What was done -> the difference to joint training then."""
    found, slug = comparison(entry.data)
    if entry.rule:
        return {f"read by `{entry.rule}`": found.between(slug, entry.method, "vanilla", entry.rule)}
    if entry.parts:
        return {f"`{part}`": found.between(slug, part, "vanilla") for part in entry.parts}
    made = {entry.row: of_suite(*TESTED[entry.data], entry.row)}
    return made | ({entry.again: of_second_suite(TESTED[entry.data][1], entry.again)} if entry.again else {})


def of_suite(folder: str, slug: str, label: str) -> Summary:
    suite = results(folder)
    (row,) = (x for x in suite.tables[slug].table.rows if x.label == label)
    assert row.against is not None
    return suite.between(slug, label, row.against)


def of_second_suite(slug: str, label: str) -> Summary:
    """Folds, draws and seed are those of the first suite, whose joint training is compared with."""
    first, second = results("surprises"), results("surprises-again")
    numbers = [second.by_unit(slug, label), first.by_unit(slug, "vanilla, 60 epochs" if LONGER in label else "vanilla")]
    return paired(*numbers, second.overlap(slug)).difference


def verdicts(entry: Entry) -> list[str]:
    """What each experiment says of its suspect; of a method's parts, all together."""
    lost, found = default_difference(entry).mean, list(outcomes(entry).values())
    if entry.parts:
        return [f"together {100 * sum(x.mean for x in found) / lost:.0f} % of the whole method's loss"]
    return [verdict(lost, after) for after in found]


def ends(found: Summary) -> tuple[float, float]:
    """The ends of an interval; of the range, where the units are too few for one."""
    return (found.least, found.greatest) if math.isnan(found.low) else (found.low, found.high)


def verdict(difference: float, after: Summary) -> str:
    """What is left of a loss, or of a gain, without the suspect.

    Args:
        difference: The method's difference to joint training.
        after: The same without the suspect.
    """
    low, high = ends(after)
    back = 1 - after.mean / difference
    if difference > 0:
        if back >= SOME:
            return f"the suspect gives {'most' if back >= MOST else 'a part'} of it, {100 * back:.0f} %"
        return "the suspect is not what it gains by"
    if low > 0:
        return "above joint training: the suspect costs all that was lost and more"
    if high >= 0 and low <= difference:
        return "these runs cannot tell: the interval holds the whole loss and none"
    if high >= 0 and back >= ALL:
        return "no loss is left that these runs could show"
    if back >= SOME:
        return f"the suspect costs {'most' if back >= MOST else 'a part'} of it, {100 * back:.0f} %"
    return "the suspect is not the cause"


def filled(text: str, entry: Entry) -> str:
    """Put the numbers of the comparison into a text."""
    found, slug = comparison(entry.data)
    numbers = found.rows(slug)[0]

    def number(place: re.Match[str]) -> str:
        kind, arguments = place[1], [x.strip() for x in place[2].split("|")]
        row = arguments[1] if len(arguments) > 1 else entry.method
        if kind in ("last", "first"):  # of a curve, its mean over the runs
            (line,) = (x for x in found.tables[slug].table.rows if x.label == row)
            curves = [found.records[c.key].curves[arguments[0]] for c in line.configs]
            value = statistics.mean(curve[-1 if kind == "last" else 0] for curve in curves)
            return f"{value:.2f}" if abs(value) >= LEAST_SHOWN else f"{value:.1g}"
        if kind in ("branch", "probe"):
            return format_number(numbers.loc[row, f"{kind}_{arguments[0]}_mean"])
        if kind == "accuracy":
            return format_number(numbers.loc[arguments[0], "val_best_mean"])
        if kind == "rule":  # the same runs, read by another rule
            return format_number(statistics.mean(found.by_unit(slug, row, arguments[0])))
        if kind == "difference":
            return interval(found.between(slug, arguments[0], "vanilla"))
        if kind == "deviation":
            return format_number(numbers.loc[arguments[0], "val_best_std"])
        raise ValueError(f"{SOURCE.name}: {{{place[0]}}} is no number that there is")

    return PLACE.sub(number, text.strip())


def section(entry: Entry) -> str:
    done = [f"**{what}** {interval(found)}" for what, found in outcomes(entry).items()]
    said = verdicts(entry)
    if entry.parts:
        outcome = f"Its parts: {listed(done) if len(done) > 1 else done[0]}; {said[0]}."
    else:
        outcome = f"Taken away: {'. A second suspect: '.join(f'{x}; {y}' for x, y in zip(done, said, strict=True))}."
    text = f"{filled(entry.why, entry)} {outcome} {filled(entry.then, entry)}"
    return f"### `{entry.method}`: {interval(default_difference(entry))}\n\n{fill_lines(text.strip())}"


def page() -> str:
    blocks = [
        "# Methods that lose, and why",
        *(fill_lines(paragraph) for paragraph in source().intro.strip().split("\n\n")),
    ]
    lines = [
        [f"`{e.method}`", COMPARED[e.data], interval(default_difference(e)), what, interval(found)]
        for e in entries()
        for what, found in outcomes(e).items()
    ]
    blocks.append(table(["method", "data", "difference", "experiment", "difference then"], *lines))
    for data, name in COMPARED.items():
        sections = [section(entry) for entry in entries() if entry.data == data]
        if sections:
            blocks += [f"## On {name}", *sections]
    return "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
