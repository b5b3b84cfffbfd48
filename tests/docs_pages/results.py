"""What the committed results say, for docs/results.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from benchmarks.reporting.agreement import correlations
from benchmarks.reporting.statistics import Summary
from benchmarks.reporting.tables import ACCURACY, EMPTY, format_number
from models.registry import FUSIONS
from tests.docs_pages.clean_sound import clean_sound
from tests.docs_pages.comparison import Comparison
from tests.docs_pages.regimes import regimes
from tests.readme_parts import (
    BASELINES,
    COUNTS,
    DIFFERENCE,
    Results,
    claim,
    correlation,
    interval,
    listed,
    loses,
    table,
    unclear,
    wins,
)

LEADING, SHOWN_LOWEST = 5, 3


def results(made: Mapping[str, Results]) -> dict[str, str]:
    """Everything that the template names. Raises ValueError for a claim that the records do not bear."""
    return {
        **strategies(made["synthav"], made["avmnist"]),
        **rules(made["synthav"]),
        **regimes(made),
        **clean_sound(made),
        **tuned(made["tune-synthav"]),
        **compared(made["compare-synthav"], made["compare-avmnist"]),
        **views(made["compare-mfeat"], made["compare-grid"], made["compare-synthav"]),
        **fusions(made["fusions"]),
    }


def strategies(synthav: Results, avmnist: Results) -> dict[str, str]:
    numbers, cells = synthav.rows("strategies-synthav")
    gaps = numbers["difference_mean"]
    vanilla, alone = numbers.loc["vanilla"], numbers.loc["visual only"]
    others = [
        n for n in numbers["val_best_mean"].sort_values().index if n not in BASELINES and not n.startswith("random")
    ]
    columns = [ACCURACY, DIFFERENCE, "wins", "p (Holm)", "visual branch", "visual probe"]
    shown = [[n, *cells.loc[n, columns]] for n in [*BASELINES, *others]]
    heads = ["setting", "accuracy", *columns[1:]]
    claim("joint training leaves vision far below", vanilla["branch_visual_mean"] + 10 < alone["branch_visual_mean"])
    claim("its features, too", vanilla["probe_visual_mean"] + 10 < alone["probe_visual_mean"])
    claim("OGM-GE reduces that", vanilla["branch_visual_mean"] + 5 < numbers.loc["ogm_ge 0.8", "branch_visual_mean"])
    claim("OGM-GE helps", wins(numbers.loc["ogm_ge 0.8"]))
    claim("its noise does nothing", unclear(numbers.loc["ge_noise"]))
    factor = synthav.between("strategies-synthav", "static_lr audio x 0.1", "ogm_ge 0.8")
    claim("a constant factor cannot be told from it", factor.low <= 0 <= factor.high)
    better = ["equal_weight_multiloss", "modality_dropout audio 0.5", "ume"]
    for label in better:
        claim(f"{label} does better", synthav.between("strategies-synthav", label, "ogm_ge 0.8").low > 0)
    lost = {
        "gated": synthav.rows("fusions-synthav")[0].loc["gated + ogm_ge 0.8"],
        "adam": synthav.rows("optimizers-synthav")[0].loc["adam + ogm_ge 0.8"],
        "often_difference": synthav.rows("phase-synthav-85-70")[0].loc["ogm_ge 0.8"],
    }
    for name, row in lost.items():
        claim(f"OGM-GE loses: {name}", loses(row))
    theirs = avmnist.rows("table2-av-mnist")
    claim("AV-MNIST's seeds tell nothing", unclear(theirs[0].loc["ogm_ge"]))
    often = synthav.presence("phase-synthav-85-70")
    claim("sound is there more often", often[0] > synthav.presence("strategies-synthav")[0])
    return {
        "sound": f"{100 * synthav.presence('strategies-synthav')[0]:.0f}",
        "picture": f"{100 * synthav.presence('strategies-synthav')[1]:.0f}",
        "training_seeds": synthav.seeds("strategies-synthav"),
        "data_seeds": COUNTS[int(numbers["units"].max())],
        "strategies": table(heads, *shown),
        "vanilla_branch": format_number(vanilla["branch_visual_mean"]),
        "alone_branch": format_number(alone["branch_visual_mean"]),
        "vanilla_probe": format_number(vanilla["probe_visual_mean"]),
        "alone_probe": format_number(alone["probe_visual_mean"]),
        "noise": cells.loc["ge_noise", DIFFERENCE],
        "factor": interval(factor),
        "ogm_ge": cells.loc["ogm_ge 0.8", DIFFERENCE],
        **{
            n: format_number(gaps[label], sign=True)
            for n, label in zip(["losses", "dropout", "ensemble"], better, strict=True)
        },
        **{name: format_number(row["difference_mean"], sign=True) for name, row in lost.items()},
        "often": "/".join(f"{p:.2f}".lstrip("0") for p in often),
        "avmnist_seeds": avmnist.seeds("table2-av-mnist"),
        "avmnist_ogm_ge": format_number(theirs[0].loc["ogm_ge", "val_best_mean"]),
        "avmnist_vanilla": format_number(theirs[0].loc["vanilla", "val_best_mean"]),
        "avmnist_difference": theirs[1].loc["ogm_ge", DIFFERENCE],
    }


def rules(synthav: Results) -> dict[str, str]:
    """What training does and what the rule of prediction does."""
    slug = "rules-synthav"
    _, cells = synthav.rows(slug)
    names, kinds = dict.fromkeys(label.split(", ")[0] for label in cells.index), ("fused", "logit_sum", "prob_mean")
    labels = {"own heads": "a loss on heads of each modality's own", "shared heads": "a loss on each part of the head"}
    lines = []
    for name in names:
        found = [
            cells.loc[f"{name}, {kind}", ACCURACY] if f"{name}, {kind}" in cells.index else EMPTY for kind in kinds
        ]
        lines.append([labels.get(name, name), *found])

    def rule(name: str) -> Summary:
        return synthav.between(slug, f"{name}, prob_mean", f"{name}, fused")

    def training(name: str, kind: str) -> Summary:
        return synthav.between(slug, f"{name}, {kind}", f"vanilla, {kind}")

    claim("the rule makes own heads better", rule("own heads").low > 0)
    claim("it does more for them than their training", rule("own heads").mean > training("own heads", "fused").mean / 2)
    claim("it does nothing to be seen for vanilla", rule("vanilla").low <= 0 <= rule("vanilla").high)
    apart = synthav.between(slug, "unimodal only, prob_mean", "own heads, prob_mean")
    fused = synthav.between(slug, "unimodal only, prob_mean", "own heads, fused")
    claim("most of the ensemble's lead is the rule's", apart.mean < fused.mean / 2)
    return {
        "rules": table(["training", *(f"`{kind}`" for kind in kinds)], *lines),
        "rule_vanilla": interval(rule("vanilla")),
        "rule_own": interval(rule("own heads")),
        "training_own": interval(training("own heads", "fused")),
        "ensemble_fused": interval(fused),
        "ensemble_apart": interval(apart),
        "rule_ogm_ge": interval(training("ogm_ge", "prob_mean")),
    }


def tuned(made: Results) -> dict[str, str]:
    """What a search gained for a few methods, and whether it changes their order."""
    numbers, cells = made.rows("gain-synthav")
    methods = [label for label in numbers.index if "(tuned" not in label]
    found = {m: next(label for label in numbers.index if label.startswith(f"{m} (tuned")) for m in methods}
    means = numbers["val_best_mean"]
    best_first = sorted(methods, key=lambda m: -means[m])
    claim("tuning changes no rank", best_first == sorted(methods, key=lambda m: -means[found[m]]))
    claim("it gains less than a point", bool((numbers.loc[list(found.values()), "difference_mean"] < 1).all()))
    gains = [f"`{m}` {cells.loc[label, 'difference']}" for m, label in found.items()]
    return {
        "tuned_trials": COUNTS[1 + max(trial.number for trial in made.trials)],
        "tuned_units": COUNTS[len(made.trials[0].configs)],
        "tuned_seeds": COUNTS[int(numbers["units"].max())],
        "tuned_methods": COUNTS[len(methods)],
        "tuned_gains": listed(gains),
        "tuned_order": listed([f"`{m}` ({format_number(means[found[m]])})" for m in best_first]),
    }


def compared(synthav: Results, avmnist: Results) -> dict[str, str]:
    """All methods on SynthAV, and on AV-MNIST with speakers that were not heard in training."""
    numbers, _ = synthav.rows("compare-synthav")
    theirs, their_cells = avmnist.rows("compare-avmnist")
    alone = ["audio only", "visual only"]

    def named(found: pd.DataFrame, methods: Sequence[str]) -> str:
        scores = found["val_best_mean"]
        return listed([f"{m if m in alone else f'`{m}`'} ({format_number(scores[m])})" for m in methods])

    leaders = list(numbers.index[:LEADING])
    claim("nobody shares the last leading rank", numbers["rank"].iloc[LEADING] > LEADING)
    below = [label for label in numbers.index if label != "vanilla" and loses(numbers.loc[label])][::-1]
    scores = theirs["val_best_mean"].dropna()
    claim("joint training is below pictures alone", bool(scores["vanilla"] < scores["visual only"]))
    complete = [label for label in scores.index if label not in alone]
    return {
        "speakers_folds": COUNTS[int(theirs["units"].max())],
        "compared_draws": COUNTS[int(numbers["units"].max())],
        "leading": COUNTS[LEADING],
        "leaders": named(numbers, leaders),
        "compared_ogm_ge": format_number(numbers.loc["ogm_ge", "val_best_mean"]),
        "compared_vanilla": format_number(numbers.loc["vanilla", "val_best_mean"]),
        "below_count": COUNTS[len(below)].capitalize(),
        "below": named(numbers, below),
        "speakers_audio": format_number(scores["audio only"]),
        "speakers_visual": format_number(scores["visual only"]),
        "speakers_vanilla": format_number(scores["vanilla"]),
        "speakers_leaders": named(theirs, complete[:LEADING]),
        "speakers_ogm_ge": their_cells.loc["ogm_ge", DIFFERENCE],
        "speakers_lowest": named(theirs, complete[: -SHOWN_LOWEST - 1 : -1]),
    }


def views(made: Results, grid: Results, synthav: Results) -> dict[str, str]:
    """Six modalities, each vectors: little is left to be gained, and what changes updates much loses."""
    found = Comparison(made)
    complete, cells, joint = found.numbers, found.cells, found.joint.index
    alone = [label for label in complete.index if label.endswith(" only")]
    lost = [label for label in joint if complete.loc[label, "difference_mean"] < -1]
    rest = complete.loc[[label for label in joint if label not in lost], "val_best_mean"]
    claim("most methods are within two points on mfeat", rest.max() - rest.min() < 2.1)
    claim("some are surely above vanilla", len(found.above) > 1)
    unfinished = [label for label in cells.index if label not in complete.index]
    rhos = [correlations(other.ranking(), made.ranking())["rho"] for other in (grid, synthav)]

    def scored(label: str) -> str:
        return f"{format_number(complete.loc[label, 'val_best_mean'])}"

    return {
        "mfeat_folds": COUNTS[int(complete["units"].max())],
        "mfeat_views": COUNTS[len(alone)],
        "mfeat_best_view": scored(alone[0]),
        "mfeat_worst_view": scored(alone[-1]),
        "mfeat_vanilla": scored("vanilla"),
        "mfeat_rows": str(len(joint)),
        "mfeat_lowest": format_number(rest.min()),
        "mfeat_highest": format_number(rest.max()),
        "mfeat_above": listed([f"`{x}` ({cells.loc[x, DIFFERENCE]})" for x in found.above[:LEADING]]),
        "mfeat_lost": listed([f"`{x}` ({scored(x)})" for x in lost]),
        "mfeat_unfinished": listed([f"`{x}`" for x in sorted(unfinished)]),
        "mfeat_grid": correlation(rhos[0]),
        "mfeat_synthav": correlation(rhos[1]),
    }


def fusions(made: Results) -> dict[str, str]:
    lines = []
    cells = {name: made.rows(f"fusions-{name}")[1] for name in ("synthav", "av-mnist")}
    for label in [label for label in cells["synthav"].index if not label.endswith("+ ogm_ge")]:
        line = [label]
        for found in cells.values():
            with_it = found.loc[f"{label} + ogm_ge"]
            line += [found.loc[label, ACCURACY], with_it[ACCURACY], with_it["difference"]]
        lines.append(line)
    claim("all fusions are there", len(lines) == len(FUSIONS))
    heads = ["SynthAV: vanilla", "OGM-GE", "difference", "AV-MNIST: vanilla", "OGM-GE", "difference"]
    return {
        "fusions": table(["fusion", *heads], *lines),
        "fusion_seeds": made.seeds("fusions-synthav"),
    }
