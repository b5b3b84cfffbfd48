"""Numbers of docs/faq.md, docs/reproduce_crema_d.md and docs/statistics.md: from records, cards, classes and files."""

from __future__ import annotations

import csv
import inspect
import math
import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.config import suite as suites
from benchmarks.config.method_defaults import METHODS
from benchmarks.config.method_text import method_text
from benchmarks.reporting import statistics as rules
from benchmarks.reporting.tables import format_number
from benchmarks.tuning.request import Tuning
from datasets.core.recipes import SMALL
from datasets.crema_d import CremaD
from models.registry import FUSIONS
from ogm.registry import STRATEGIES, find
from tests.docs_pages.comparison import Comparison
from tests.docs_pages.evidence import named
from tests.readme_parts import COUNTS, DIFFERENCE, Results, claim, loses, wins

ROOT = Path(__file__).resolve().parents[2]


def published() -> dict[tuple[str, str], tuple[str, str]]:
    """(table, row) -> accuracy that the OGM-GE paper prints for CREMA-D, and the note on it."""
    with (ROOT / "results" / "published.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["dataset"], row["metric"]) == ("crema_d", "accuracy")]
    return {(row["table"], row["row"]): (row["value"], row["note"]) for row in rows}


def faq(made: Mapping[str, Results]) -> dict[str, str]:
    """Everything that the template names."""
    printed = published()
    grid, synthav, mfeat = (Comparison(made[x]) for x in ("compare-grid", "compare-synthav", "compare-mfeat"))
    optimizers, cells = made["synthav"].rows("optimizers-synthav")
    claim("OGM-GE loses with Adam", loses(optimizers.loc["adam + ogm_ge 0.8"]))
    claim("the released code has SGD built in", "hard-wired" in printed["table6", "adam"][1])
    claim("it helps with SGD", wins(optimizers.loc["sgd + ogm_ge 0.8"]))
    claim("OGM-GE is below joint training on GRID", "ogm_ge" in grid.below)
    claim(
        "a model at 43 is about as good as the picture alone", abs(43 - float(printed["table1", "visual only"][0])) < 2
    )
    picks = {name: preset.picks for name, preset in CremaD.presets.items()}
    claim("bb takes two frames, the others one", picks.pop("bb") == 2 and set(picks.values()) == {1})
    most = {name: find(name, STRATEGIES, "method").most_modalities for name in STRATEGIES}
    claim("methods are for two modalities or for any number", set(most.values()) == {2, None})
    ogm_ge = inspect.signature(find("ogm_ge", STRATEGIES, "method")).parameters
    (released,) = [x for x in method_text(find("film", FUSIONS, "fusion").__doc__).differences if "cannot train" in x]
    claim("the paper's FiLM row cannot be run", "shape error" in printed["table1", "film + ogm_ge"][1])
    gains = {x.made.slug: x.numbers["test_best_mean"] - x.numbers["val_best_mean"] for x in (grid, synthav)}
    page = (ROOT / "docs" / "paper_and_code.md").read_text("utf-8")
    (repositories,) = re.findall(r"^(\d+ of the \d+) repositories of authors report the epoch", page, re.MULTILINE)
    recipe = CremaD.training_recipe
    return {
        "published_audio": printed["table1", "audio only"][0],
        "published_visual": printed["table1", "visual only"][0],
        "published_concat": printed["table1", "concat"][0],
        "published_ogm_ge": printed["table1", "concat + ogm_ge"][0],
        "published_adam": printed["table6", "adam"][0],
        "published_adam_ogm_ge": printed["table6", "adam + ogm_ge"][0],
        "paper_lr": str(recipe["lr"]),
        "paper_epochs": str(recipe["epochs"]),
        "paper_step": listed_steps(recipe["lr_steps"]),
        "crema_d_split": quirk("split=ogm is"),
        "crema_d_frames": quirk("The released OGM-GE code always sees"),
        "repositories": repositories,
        "epoch_rows": str(len(gains["compare-grid"])),
        "epoch_gain": format_number(gains["compare-grid"].mean(), digits=2),
        "epoch_most": format_number(gains["compare-grid"].max(), digits=2),
        "epoch_gain_synthav": format_number(gains["compare-synthav"].mean(), digits=2),
        "epoch_most_synthav": format_number(gains["compare-synthav"].max(), digits=2),
        "adam": str(cells.loc["adam + ogm_ge 0.8", "difference"]),
        "sgd": str(cells.loc["sgd + ogm_ge 0.8", "difference"]),
        "film_released": released,
        "multi": str(inspect.signature(find("ogm", STRATEGIES, "method")).parameters["multi"].default),
        "two_only": ", ".join(named(name, name) for name, number in most.items() if number == 2),
        "mfeat_rows": str(len(mfeat.joint)),
        "grid_ogm_ge": str(grid.cells.loc["ogm_ge", DIFFERENCE]),
        "synthav_ogm_ge": str(synthav.cells.loc["ogm_ge", DIFFERENCE]),
        "alpha_synthav": str(METHODS["ogm_ge"].per_dataset["synthav"]["alpha"]),
        "alpha_grid": str(METHODS["ogm_ge"].per_dataset.get("grid", {}).get("alpha", ogm_ge["alpha"].default)),
        "ogm_end": str(ogm_ge["end"].default),
        "small_epochs": str(SMALL["epochs"]),
    }


def reproduce_crema_d(made: Mapping[str, Results]) -> dict[str, str]:
    """Everything that the template names; nothing of it is from a record, since there is none on CREMA-D."""
    card, printed = CremaD.card, published()
    claim("nothing on CREMA-D is committed", not list((ROOT / "results" / "reference").glob("*crema*")))
    sizes = {name: re.search(rf"{name} \(([\d.]+) GB\)", card.how_to_get) for name in ("AudioWAV", "VideoFlash")}
    assert all(sizes.values())
    suite = suites.load("paper", datasets=["crema_d"])
    configs = {config.key: config for config in suite.configs()}
    (epochs,) = {config.epochs for config in configs.values()}
    return {
        "size": card.size,
        "preparation": card.preparation,
        "run_on_cpu": card.run_on_cpu,
        "run_on_gpu": card.run_on_gpu,
        "licence": card.licence,
        "runs": str(len(configs)),
        "epochs": str(epochs),
        "seeds": COUNTS[len({config.seed for config in configs.values()})],
        "audio_gb": sizes["AudioWAV"][1],  # type: ignore[index]
        "video_gb": sizes["VideoFlash"][1],  # type: ignore[index]
        "alpha": str(METHODS["ogm_ge"].per_dataset["crema_d"]["alpha"]),
        "alpha_source": METHODS["ogm"].source.partition(". ")[0].partition(": ")[2],
        "published_concat": printed["table1", "concat"][0],
        "published_ogm_ge": printed["table1", "concat + ogm_ge"][0],
        "quirks": "\n".join(f"- {text}" for text in card.quirks),
    }


def statistics(made: Mapping[str, Results]) -> dict[str, str]:
    """The constants of the tests, and what the correction for folds does on GRID."""
    grid = made["compare-grid"]
    units = Comparison(grid).units
    wider = math.sqrt((1 / units + grid.overlap(grid.slug)) * units)
    return {
        "trials": COUNTS[Tuning.model_fields["trials"].default],
        "level": f"{100 * (1 - rules.LEVEL):.0f}",
        "least": COUNTS[rules.LEAST_UNITS],
        "exact": str(rules.EXACT),
        "draws": f"{rules.DRAWS:,}",
        "smallest": f"{2 / 2**5:.4f}",
        "wider": format_number(wider),
        "resamples": f"{rules.RESAMPLES:,}",
    }


def quirk(begins: str) -> str:
    """The sentences of CREMA-D's card that begin so."""
    (text,) = [text for text in CremaD.card.quirks if text.startswith(begins)]
    return text


def listed_steps(steps: list[int]) -> str:
    return " and ".join(f"epoch {step}" for step in steps)
