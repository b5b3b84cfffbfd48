"""How SynthAV's regimes rank methods, beside recordings, for docs/results.md and the README."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from benchmarks.reporting.agreement import Correlation, Ranking, correlations
from benchmarks.reporting.method_names import title_of
from benchmarks.reporting.tables import ACCURACY, format_number
from datasets.core.information import decompose
from datasets.core.regimes import REGIMES, presence
from datasets.synthav import PRESETS
from tests.readme_parts import COUNTS, DIFFERENCE, Results, claim, correlation, interval, loses, table, wins

DEFAULT = "default"
FOLDERS = {DEFAULT: "compare-synthav", **{name: f"compare-{name}" for name in REGIMES}}
GRID = "compare-grid"


def regimes(made: Mapping[str, Results]) -> dict[str, str]:
    """What each regime's clips say about the class, what methods reach there, and whether they rank as on GRID."""
    found, grid = _rankings(made)
    rho = against(grid, found)
    complementary = made[FOLDERS["complementary"]]
    ranks = [[f"`{name}`", correlation(one)] for name, one in rho.items()]
    return {
        "regimes_count": COUNTS[len(REGIMES)].capitalize(),
        "regimes_units": COUNTS[min(one.units for one in found.values())],
        "regimes_default_units": COUNTS[found[DEFAULT].units],
        "regimes_summed": interval(complementary.between(complementary.slug, "ume", "vanilla", "logit_sum")),
        "regimes_information": table(
            ["regime", "both", "only sound", "only picture", "only the pair"], *map(_information, FOLDERS)
        ),
        "regimes": table(
            ["regime", "sound alone", "picture alone", "joint training", "`ogm_ge`", "`ume`", "best"],
            *(_reached(made[folder], name) for name, folder in FOLDERS.items()),
        ),
        "regimes_ranks": table(["regime", "rank correlation with GRID words"], *ranks),
        **_nearest(made, grid, rho),
    }


def nearest(made: Mapping[str, Results]) -> dict[str, str]:
    """The regime that ranks methods most as GRID does, and what it has in common with it."""
    found, grid = _rankings(made)
    return _nearest(made, grid, against(grid, found))


def _nearest(made: Mapping[str, Results], grid: Ranking, rho: Mapping[str, Correlation]) -> dict[str, str]:
    best = max(rho, key=lambda name: rho[name].value)
    claim("complementary ranks most as GRID does", best == "complementary")
    claim("default ranks otherwise, surely", rho[DEFAULT].high < rho[best].low)
    numbers, cells = made[FOLDERS[best]].rows()
    claim("the ensemble loses there, too", loses(numbers.loc["ume"]))
    claim("OGM-GE loses there, too", loses(numbers.loc["ogm_ge"]))
    additive = made[FOLDERS["additive"]].rows()[0]
    claim("noise that adds up does not suffice", wins(additive.loc["ume"]))
    return {
        "nearest_rho": correlation(rho[best]),
        "nearest_default": correlation(rho[DEFAULT]),
        "regimes_settings": str(len(grid.scores)),
        "nearest_ume": cells.loc["ume", DIFFERENCE],
        "nearest_ogm_ge": cells.loc["ogm_ge", DIFFERENCE],
    }


def against(grid: Ranking, found: Mapping[str, Ranking]) -> dict[str, Correlation]:
    """Spearman's rank correlation of each regime with recordings."""
    return {name: correlations(grid, one)["rho"] for name, one in found.items()}


def _rankings(made: Mapping[str, Results]) -> tuple[dict[str, Ranking], Ranking]:
    """Of the regimes and of GRID, over the settings that all of them have."""
    found = {name: made[folder].ranking() for name, folder in FOLDERS.items()}
    grid = made[GRID].ranking()
    settings = set.intersection(*(set(one.scores) for one in (grid, *found.values())))
    return {name: _few(one, settings) for name, one in found.items()}, _few(grid, settings)


def _few(one: Ranking, settings: set[str]) -> Ranking:
    """A ranking of these settings alone."""
    return dataclasses.replace(one, scores={label: one.scores[label] for label in sorted(settings)})


def _information(name: str) -> list[str]:
    parts = decompose(presence(**PRESETS[DEFAULT]) if name == DEFAULT else REGIMES[name].joint())
    bits = (parts.redundant, parts.unique_first, parts.unique_second, parts.synergy)
    return [f"`{name}`", *(format_number(x, digits=2) for x in bits)]


def _reached(made: Results, name: str) -> list[str]:
    numbers, cells = made.rows()
    accuracies = [cells.loc[label, ACCURACY] for label in ("audio only", "visual only", "vanilla")]
    best = next(label for label in numbers.index if not label.endswith(" only"))
    claim(f"the best is above joint training in {name}", wins(numbers.loc[best]))
    differences = [cells.loc[label, DIFFERENCE] for label in ("ogm_ge", "ume")]
    return [f"`{name}`", *accuracies, *differences, f"`{best}` ({title_of(best)}) {cells.loc[best, DIFFERENCE]}"]
