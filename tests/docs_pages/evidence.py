"""What the comparisons of all methods decide, for docs/which_method.md."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from benchmarks.reporting.agreement import correlations
from benchmarks.reporting.method_names import title_of
from benchmarks.reporting.tables import ACCURACY, format_number
from tests.docs_pages.comparison import BASELINE, Comparison
from tests.docs_pages.results import tuned
from tests.readme_parts import COUNTS, Results, claim, correlation, listed, loses, table, unclear

DATA = {  # folder -> what it is
    "compare-grid": ("GRID words", "recordings of one talker in noise, sound and mouth"),
    "compare-synthav": ("SynthAV", "generated; a cue is there or not"),
    "compare-mfeat": ("six views of digits", "six vectors of one digit"),
    "compare-grid-clean": ("GRID words without noise", "the same recordings; sound alone says almost all of it"),
}
BESIDE = "compare-grid-clean"  # is shown, and decides nothing here


def which_method(made: Mapping[str, Results]) -> dict[str, str]:
    """Everything that the template names. Raises ValueError for a claim that the records do not bear."""
    every = {folder: Comparison(made[folder]) for folder in DATA}
    found = {folder: one for folder, one in every.items() if folder != BESIDE}
    grid, synthav, mfeat = found.values()
    everywhere = [label for label in grid.above if label in synthav.above and label in mfeat.above]
    recordings = [label for label in grid.above if label in synthav.above and label not in mfeat.above]
    turned = [label for label in synthav.joint.index if label in synthav.above and label in grid.below]
    below = [label for label in grid.below[::-1] if label in synthav.below]
    claim("some settings are above on all three", len(everywhere) > 1)
    claim("none is the other way round", not set(grid.above) & set(synthav.below))
    claim("few methods add to joint training on GRID", len(grid.above) < len(grid.joint) / 4)
    claim("the picture alone is level on SynthAV", unclear(synthav.numbers.loc["visual only"]))
    claim("both are far above the better one alone", loses(grid.numbers.loc["audio only"]))
    claim("sound is the better one on GRID", grid.numbers["val_best_mean"]["audio only"]
          > grid.numbers["val_best_mean"]["visual only"])  # fmt: skip
    agreement = correlations(grid.made.ranking(), synthav.made.ranking())["rho"]
    claim("ranks on GRID and on SynthAV agree little", agreement.high < 0.5)
    halves = (grid.joint["difference_high"] - grid.joint["difference_low"]) / 2
    ranks = tuned(made["tune-synthav"])  # claims that no rank changes
    return {
        "evidence": _evidence(every),
        "grid_compared": str(int(grid.numbers["difference_mean"].notna().sum())),
        "grid_holm": _named(grid, grid.corrected(better=True)),
        "grid_holm_below": COUNTS[len(grid.corrected(better=False))],
        "synthav_alone": synthav.cell("visual only"),
        "grid_alone": grid.cell("audio only"),
        "multiloss": _each(found, "equal_weight_multiloss"),
        "ume": _each(found, "ume"),
        "everywhere_count": COUNTS[len(everywhere)].capitalize(),
        "everywhere": _table(found, everywhere),
        "recordings": _table(found, recordings),
        "turned_count": COUNTS[len(turned)].capitalize(),
        "turned": _table(found, turned),
        "below": _named(grid, below),
        "grid_tied": str(_tied(grid.numbers)),
        "grid_rows": str(len(grid.numbers)),
        "rho_grid_synthav": correlation(agreement),
        "rho_grid_mfeat": _rho(grid, mfeat),
        "rho_synthav_mfeat": _rho(synthav, mfeat),
        "tuned_methods": ranks["tuned_methods"],
        "grid_units": COUNTS[grid.units],
        "grid_half": format_number(float(halves.median())),
    }


def named(label: str, method: str) -> str:
    """A row's label with the full name of its method."""
    title = title_of(method)
    return f"`{label}` ({title})" if title else f"`{label}`"


def _evidence(found: Mapping[str, Comparison]) -> str:
    lines = []
    for folder, one in found.items():
        name, what = DATA[folder]
        joint = one.cells.loc[BASELINE, ACCURACY]
        counts = (f"{len(rows)} of {len(one.joint)}" for rows in (one.above, one.below))
        link = f"[{name}](../results/reference/{folder}/README.md)"
        lines.append([link, what, str(one.units), str(joint), *counts])
    return table(["data", "what it is", "draws or folds", "joint training", "above it", "below it"], *lines)


def _table(found: Mapping[str, Comparison], labels: Sequence[str]) -> str:
    grid = next(iter(found.values()))
    lines = []
    for label in labels:
        method = grid.methods[label]
        name = f"[`{label}`](methods/{method}.md) ({title_of(method)})"
        lines.append([name, str(grid.cells.loc[label, "passes"]), *(one.cell(label) for one in found.values())])
    return table(["setting", "passes", *(DATA[folder][0] for folder in found)], *lines)


def _named(one: Comparison, labels: Iterable[str]) -> str:
    return listed([named(label, one.methods[label]) for label in labels])


def _each(found: Mapping[str, Comparison], label: str) -> str:
    return ", ".join(f"{one.cell(label)} on {DATA[folder][0]}" for folder, one in found.items())


def _rho(one: Comparison, other: Comparison) -> str:
    return correlation(correlations(one.made.ranking(), other.made.ranking())["rho"])


def _tied(numbers: pd.DataFrame) -> int:
    """How many rows share a letter with the first one."""
    letters = [set(str(group)) & set(string.ascii_letters) for group in numbers["group"]]
    claim("the tests of all pairs were made", bool(letters[0]))
    return sum(bool(group & letters[0]) for group in letters[1:])
