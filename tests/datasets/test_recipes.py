"""The settings that datasets are trained with, and what must never change: the keys of committed records."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.config.run_config import RunConfig, configure, key_of
from benchmarks.records import suite_file
from benchmarks.records.store import read_records
from datasets.registry import DATASETS, card, card_in_source
from ogm.registry import find

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"
IDENTITY = ("dataset", "method", "fusion", "seed", "dataset_args", "method_args", "fusion_args", "optimizer")


@pytest.mark.parametrize("folder", sorted(REFERENCE.iterdir()), ids=lambda folder: folder.name)
def test_configure_gives_every_committed_record_its_key(folder: Path) -> None:
    """From what says which run it is. All else comes from the recipe.

    But for the protocol of earlier runs, rows that are not trained at all, what a search has found, and the suites that
    change the recipe itself.
    """
    made_from = suite_file.read(folder)
    assert made_from is not None
    experiments = folder.name.startswith("surprises")
    may_change = {"protocol", "epochs", *(("lr",) if made_from.suite.trials or experiments else ())}
    for record in read_records(folder):
        given = {name: record.config[name] for name in IDENTITY if name in record.config}
        made = configure(given).model_dump(mode="json")
        changed = {name: x for name, x in record.config.items() if made[name] != x}
        assert changed.keys() <= may_change and changed.get("epochs", 0) in ((0, 60) if experiments else (0,))
        assert key_of({**made, **changed}) == record.key, record.config


@pytest.mark.parametrize("name", DATASETS)
def test_a_recipe_is_a_whole_configuration(name: str) -> None:
    kind = find(name, DATASETS, "dataset")
    assert kind.training_recipe.keys() <= RunConfig.model_fields.keys() and 0 < kind.adaptive_lr < 0.01
    if name != "manifest":  # its encoders depend on its columns
        config = configure({"dataset": name, "optimizer": "adam"})
        assert set(config.encoders) == set(kind.modalities) and config.lr == kind.adaptive_lr


@pytest.mark.parametrize("name", DATASETS)
def test_a_card_read_from_the_source_is_the_class_s_own(name: str) -> None:
    assert card_in_source(name) == find(name, DATASETS, "dataset").card == card(name)
