"""GRID words with their sound as recorded, beside the same words in noise, for docs/results.md and the README."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.reporting.agreement import Correlation, correlations
from benchmarks.reporting.method_names import title_of
from benchmarks.reporting.tables import ACCURACY
from tests.docs_pages.comparison import Comparison
from tests.docs_pages.regimes import FOLDERS, GRID
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
)

CLEAN = "compare-grid-clean"
SHOWN = [*BASELINES, "equal_weight_multiloss", "modality_dropout", "ume", "ogm", "ogm_ge"]
LEADING, LOWEST = 5, 3


def clean_sound(made: Mapping[str, Results]) -> dict[str, str]:
    """What methods reach without noise, and how their ranking agrees with the other ones."""
    clean, found = made[CLEAN], Comparison(made[CLEAN])
    joint, cells = found.joint.index, found.cells
    noisy, other = made[GRID].rows()
    claim("the best one in noise is arl as released", noisy.index[0] == "arl as released")
    claim("both together are far above sound alone in noise", loses(noisy.loc["audio only"]))
    heads = [f"{place}: {what}" for place in ("without noise", "in noise") for what in (ACCURACY, DIFFERENCE)]
    lines = [[x if x in BASELINES else f"`{x}` ({title_of(x)})", *cells.loc[x, [ACCURACY, DIFFERENCE]],
              *other.loc[x, [ACCURACY, DIFFERENCE]]] for x in SHOWN]  # fmt: skip
    return {
        "clean": table(["setting", *heads], *lines),
        "clean_joint": str(len(joint)),
        "clean_alone": interval(clean.between(clean.slug, "vanilla", "audio only")),
        "clean_above": str(len(found.above)),
        "clean_below": str(len(found.below)),
        "clean_leaders": listed([f"`{x}` ({cells.loc[x, DIFFERENCE]})" for x in joint[:LEADING]]),
        "clean_lowest": listed([f"`{x}` ({cells.loc[x, ACCURACY]})" for x in joint[: -LOWEST - 1 : -1]]),
        "clean_released": cells.loc["arl as released", DIFFERENCE],
        "clean_ogm": cells.loc["ogm", DIFFERENCE],
        "clean_static": cells.loc["static_lr", DIFFERENCE],
        "clean_losses": cells.loc["equal_weight_multiloss", DIFFERENCE],
        "noisy_losses": other.loc["equal_weight_multiloss", DIFFERENCE],
        "clean_apart": interval(clean.between(clean.slug, "ume", "vanilla", "logit_sum")),
        "clean_rho_synthav": correlation(_agreement(made, FOLDERS["default"])),
        "clean_rho_complementary": correlation(_agreement(made, FOLDERS["complementary"])),
        **in_short(made),
    }


def in_short(made: Mapping[str, Results]) -> dict[str, str]:
    """The README's sentence."""
    numbers, cells = made[CLEAN].rows()
    for label in ("audio only", "ume"):
        claim(f"{label} is level with joint training without noise", unclear(numbers.loc[label]))
    noisy, _ = made[GRID].rows()
    claim("OGM-GE loses without noise, too", loses(numbers.loc["ogm_ge"]))
    claim("it loses more than in noise", bounds(numbers.loc["ogm_ge"])[1] < bounds(noisy.loc["ogm_ge"])[0])
    return {
        "clean_ogm_ge": cells.loc["ogm_ge", DIFFERENCE],
        "clean_ume": cells.loc["ume", DIFFERENCE],
        "clean_rho": correlation(_agreement(made, GRID)),
    }


def _agreement(made: Mapping[str, Results], folder: str) -> Correlation:
    """Spearman's rank correlation of the words without noise with another ranking, over the settings of both."""
    return correlations(made[CLEAN].ranking(), made[folder].ranking())["rho"]
