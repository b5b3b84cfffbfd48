"""GRID words with their sound as recorded, beside the same words in noise, for docs/results.md and the README."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from benchmarks.reporting.agreement import Correlation, correlations
from benchmarks.reporting.method_names import title_of
from benchmarks.reporting.tables import ACCURACY
from tests.docs_pages.regimes import FOLDERS, SLUG
from tests.readme_parts import (
    BASELINES,
    DIFFERENCE,
    Results,
    bounds,
    claim,
    correlation,
    interval,
    listed,
    loses,
    table,
    unclear,
    wins,
)

CLEAN, NOISY, SYNTHAV = "compare-grid-clean", "compare-grid", "compare-synthav"
SLUG_OF_GRID = "compare-grid"  # of the table of either folder: it names the dataset
SHOWN = [*BASELINES, "equal_weight_multiloss", "modality_dropout", "ume", "ogm", "ogm_ge"]
LEADING, LOWEST = 5, 3


def clean_sound(made: Mapping[str, Results]) -> dict[str, str]:
    """What methods reach without noise, and how their ranking agrees with the other ones."""
    clean, noisy = made[CLEAN], made[NOISY]
    numbers, cells = clean.rows(SLUG_OF_GRID)
    complete = numbers[numbers["val_best_mean"].notna()]
    joint = [label for label in complete.index if not label.endswith(" only") and label != "vanilla"]
    above, below = ([label for label in joint if sure(complete.loc[label])] for sure in (wins, loses))
    alone = clean.between(SLUG_OF_GRID, "vanilla", "audio only")
    claim("the best one in noise is arl as released", _noisy(made).index[0] == "arl as released")
    claim("both together are far above sound alone in noise", loses(_noisy(made).loc["audio only"]))
    heads = [f"{place}: {what}" for place in ("without noise", "in noise") for what in (ACCURACY, DIFFERENCE)]
    other = noisy.rows(SLUG_OF_GRID)[1]
    lines = [[x if x in BASELINES else f"`{x}` ({title_of(x)})", *cells.loc[x, [ACCURACY, DIFFERENCE]],
              *other.loc[x, [ACCURACY, DIFFERENCE]]] for x in SHOWN]  # fmt: skip
    return {
        "clean": table(["setting", *heads], *lines),
        "clean_joint": str(len(joint)),
        "clean_alone": interval(alone),
        "clean_above": str(len(above)),
        "clean_below": str(len(below)),
        "clean_leaders": listed([f"`{x}` ({cells.loc[x, DIFFERENCE]})" for x in joint[:LEADING]]),
        "clean_lowest": listed([f"`{x}` ({cells.loc[x, ACCURACY]})" for x in joint[: -LOWEST - 1 : -1]]),
        "clean_released": cells.loc["arl as released", DIFFERENCE],
        "clean_ogm": cells.loc["ogm", DIFFERENCE],
        "clean_static": cells.loc["static_lr", DIFFERENCE],
        "clean_losses": cells.loc["equal_weight_multiloss", DIFFERENCE],
        "noisy_losses": other.loc["equal_weight_multiloss", DIFFERENCE],
        "clean_apart": interval(clean.between(SLUG_OF_GRID, "ume", "vanilla", "logit_sum")),
        "clean_rho_synthav": correlation(_agreement(made, SYNTHAV, SYNTHAV)),
        "clean_rho_complementary": correlation(_agreement(made, FOLDERS["complementary"], SLUG)),
        **in_short(made),
    }


def in_short(made: Mapping[str, Results]) -> dict[str, str]:
    """The README's sentence."""
    numbers, cells = made[CLEAN].rows(SLUG_OF_GRID)
    for label in ("audio only", "ume"):
        claim(f"{label} is level with joint training without noise", unclear(numbers.loc[label]))
    claim("OGM-GE loses without noise, too", loses(numbers.loc["ogm_ge"]))
    claim("it loses more than in noise", bounds(numbers.loc["ogm_ge"])[1] < bounds(_noisy(made).loc["ogm_ge"])[0])
    return {
        "clean_ogm_ge": cells.loc["ogm_ge", DIFFERENCE],
        "clean_ume": cells.loc["ume", DIFFERENCE],
        "clean_rho": correlation(_agreement(made, NOISY, SLUG_OF_GRID)),
    }


def _noisy(made: Mapping[str, Results]) -> pd.DataFrame:
    return made[NOISY].rows(SLUG_OF_GRID)[0]


def _agreement(made: Mapping[str, Results], folder: str, slug: str) -> Correlation:
    """Spearman's rank correlation of the words without noise with another ranking, over the settings of both."""
    return correlations(made[CLEAN].ranking(SLUG_OF_GRID), made[folder].ranking(slug))["rho"]
