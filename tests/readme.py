"""The README's numbers, from the committed records: ``python -m tests.readme`` writes its part with the results anew.

The words are those of readme_results.md. What they claim about orders and signs is checked here, where the numbers are
made: a claim that the records do not bear is a ValueError, and its sentence has to change.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.reporting.agreement import correlations
from benchmarks.reporting.statistics import summary
from benchmarks.reporting.tables import ACCURACY, format_number
from tests.docs_pages.clean_sound import in_short
from tests.docs_pages.regimes import nearest
from tests.readme_parts import (
    BASELINES,
    COUNTS,
    DIFFERENCE,
    REFERENCE,
    Results,
    claim,
    correlation,
    fill_lines,
    interval,
    listed,
    loses,
    read_all,
    table,
    wins,
)

README, TEMPLATE = REFERENCE.parents[1] / "README.md", Path(__file__).with_name("readme_results.md")
BEGIN = "<!-- From the records, by python -m tests.readme; the words are in tests/readme_results.md. -->\n"
END = "<!-- Until here. -->\n"
LEADING = 3  # of each ranking are shown
SHOWN = ["ogm_ge", "ogm", "modality_dropout", "equal_weight_multiloss", "ume"]


def numbers_of(made: Mapping[str, Results]) -> dict[str, str]:
    """Everything that the template names. Raises ValueError for a claim that the records do not bear."""
    return {
        **recordings(made["compare-grid"], made["compare-synthav"]),
        **in_short(made),
        **nearest(made),
    }


def results(made: Mapping[str, Results]) -> str:
    """The README's part with the results."""
    blocks = TEMPLATE.read_text().format(**numbers_of(made)).strip().split("\n\n")
    return "\n\n".join(block if block.startswith(("|", "#")) else fill_lines(block) for block in blocks)


def recordings(grid: Results, synthav: Results) -> dict[str, str]:
    """Real recordings beside generated ones: the ranking turns over, and what the rule of prediction does to it."""
    slugs = {"compare-grid": grid, "compare-synthav": synthav}
    numbers = {slug: made.rows(slug)[0] for slug, made in slugs.items()}
    cells = {slug: made.rows(slug)[1] for slug, made in slugs.items()}
    on_grid, on_synthav = numbers.values()
    best = [label for found in numbers.values() for label in found.index[:LEADING]]
    named = [label for label in on_grid.index if label in {*best, *SHOWN} and label not in BASELINES]
    lines = [[x, *(found.loc[x, name] for found in cells.values() for name in (ACCURACY, DIFFERENCE))] for x in
             [*BASELINES, *named]]  # fmt: skip
    claim("ume is first on SynthAV", on_synthav.index[0] == "ume")
    claim("ume loses on recordings", loses(on_grid.loc["ume"]))
    claim("OGM-GE helps on SynthAV", wins(on_synthav.loc["ogm_ge"]))
    claim("OGM-GE loses on recordings", loses(on_grid.loc["ogm_ge"]))
    leaders = [label for label in on_grid.index[:LEADING] if wins(on_grid.loc[label])]
    claim("the best on recordings are above vanilla", len(leaders) == LEADING)
    kinds = ("logit_sum", "prob_mean")

    def means(slug: str, label: str, rule: str) -> str:
        of_units = slugs[slug].by_unit(slug, label, rule)
        return format_number(summary(of_units).mean)

    rules_of = [
        [label, *(means(slug, label, kind) for slug in slugs for kind in kinds)]
        for label in ["vanilla", "equal_weight_multiloss", "ume"]
    ]
    averaged = {
        slug: made.between(slug, "equal_weight_multiloss", "equal_weight_multiloss", "prob_mean", "logit_sum")
        for slug, made in slugs.items()
    }
    ensemble = {slug: made.between(slug, "ume", "ume", "prob_mean", "logit_sum") for slug, made in slugs.items()}
    for found in (averaged, ensemble):
        claim("averaging helps on SynthAV", found["compare-synthav"].low > 0)
        claim("averaging loses on recordings", found["compare-grid"].high < 0)
    apart = grid.between("compare-grid", "ume", "vanilla", "logit_sum")
    claim("what ume loses it loses by averaging", apart.high > 0)
    rho = correlations(grid.ranking(), synthav.ranking())["rho"]
    config = grid.tables["compare-grid"].table.rows[0].configs[0]
    report = grid.records[config.key].data["report"]
    return {
        "recordings": table(["setting", "GRID words", DIFFERENCE, "SynthAV", DIFFERENCE], *lines),
        "grid_words": f"{sum(part['found'] for part in report.values()):,}",
        "grid_classes": str(len(report["test"]["per_class"])),
        "grid_noise": format_number(config.dataset_args["noise_db"], digits=0),
        "grid_folds": COUNTS[int(on_grid["units"].max())],
        "compared_draws": COUNTS[int(on_synthav["units"].max())],
        "agree_rows": str(len(set(on_grid.index) & set(on_synthav.index))),
        "agree_rho": correlation(rho),
        "grid_ume": cells["compare-grid"].loc["ume", DIFFERENCE],
        "grid_ogm_ge": cells["compare-grid"].loc["ogm_ge", DIFFERENCE],
        "beside_ume": cells["compare-synthav"].loc["ume", DIFFERENCE],
        "beside_ogm_ge": cells["compare-synthav"].loc["ogm_ge", DIFFERENCE],
        "grid_leaders": listed([f"`{x}` ({cells['compare-grid'].loc[x, DIFFERENCE]})" for x in leaders]),
        "grid_rules": table(
            ["training", *(f"{name}: `{kind}`" for name in ("GRID words", "SynthAV") for kind in kinds)], *rules_of
        ),
        "grid_averaged": interval(averaged["compare-grid"]),
        "beside_averaged": interval(averaged["compare-synthav"]),
        "grid_ensemble": interval(ensemble["compare-grid"]),
        "beside_ensemble": interval(ensemble["compare-synthav"]),
        "grid_apart": interval(apart),
    }


def parts() -> tuple[str, str, str]:
    """The README before, within and after its results."""
    before, _, rest = README.read_text().partition(BEGIN)
    within, _, after = rest.partition(END)
    return before, within, after


if __name__ == "__main__":
    before, _, after = parts()
    if not after:
        sys.exit(f"{README} has no results between {BEGIN.strip()} and {END.strip()}")
    README.write_text(f"{before}{BEGIN}\n{results(read_all())}\n\n{END}{after}")
