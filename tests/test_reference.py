"""The committed results: made again from their records, and one run of them made again from nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.config import RunConfig, configure
from benchmarks.record import RunRecord, read_records
from benchmarks.run import Place, run
from models.registry import FUSIONS

RESULTS = Path(__file__).resolve().parents[1] / "results"
COMMITTED = ("avmnist", "compare-avmnist", "compare-synthav", "fusions", "reference")
FOLDERS = [RESULTS / name for name in COMMITTED]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_tables_follow_from_the_records(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(folder / "records", tmp_path / "records")
    shutil.copy(folder / "suite.json", tmp_path)
    assert main(["tables", str(tmp_path)]) == 0
    capsys.readouterr()
    for path in [folder / "runs.csv", folder / "README.md", *sorted((folder / "tables").iterdir())]:
        assert (tmp_path / path.relative_to(folder)).read_text() == path.read_text(), path.name


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_records_come_from_one_commit_and_say_so(folder: Path) -> None:
    records = list(read_records(folder))
    assert all(RunConfig(**r.config).key == r.key for r in records)
    assert {(r.provenance["commit"], r.provenance["dirty"]) for r in records} == {
        (records[0].provenance["commit"], False)
    }


def test_a_run_of_the_reference_can_be_made_again(tmp_path: Path) -> None:
    """The whole run, 20 epochs. Another processor rounds differently, so it is compared as accuracies are read."""
    config = configure({"dataset": "synthav", "method": "unimodal", "method_args.modality": "audio", "seed": 0})
    place = Place(RESULTS / "reference", tmp_path)
    committed = place.finished(config)
    assert committed is not None, "the reference has no audio-only run"
    again = run(config, Place(tmp_path / "results", tmp_path))
    assert json.loads(json.dumps(again.data)) == committed.data
    for name in ("accuracy", "macro_f1"):
        assert again.test["last"][name] == pytest.approx(committed.test["last"][name], abs=0.02)
    assert isinstance(committed, RunRecord) and again.probe["audio"] == pytest.approx(
        committed.probe["audio"], abs=0.02
    )


def test_the_readme_prints_the_references_numbers() -> None:
    """Every row of the README's table stands, cell for cell, in the table made from the records."""
    text = (RESULTS.parent / "README.md").read_text()
    made = (RESULTS / "reference" / "tables" / "strategies-synthav.md").read_text().replace("\\", "")
    cells = {
        line.split("|")[1].strip(): {c.strip() for c in line.split("|")} for line in made.splitlines() if "|" in line
    }
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if "/15 |" in line]
    assert len(rows) == 10
    for label, *values in rows:
        assert set(values) <= cells[label], label


def test_the_readme_prints_the_fusions_numbers() -> None:
    """Likewise its table of fusions: vanilla, OGM-GE and the difference on two data sets."""
    text = (RESULTS.parent / "README.md").read_text()
    _, _, rows = text.partition("| fusion | SynthAV: vanilla |")
    shown = [[c.strip() for c in line.strip("|").split("|")] for line in rows.partition("\n\n")[0].splitlines()[2:]]
    assert len(shown) == len(FUSIONS)
    for part, name in ((slice(1, 4), "synthav"), (slice(4, 7), "av-mnist")):
        made = (RESULTS / "fusions" / "tables" / f"fusions-{name}.md").read_text().replace("\\", "")
        cells = {w[0]: w for w in ([c.strip() for c in x.strip("|").split("|")] for x in made.splitlines() if "|" in x)}
        for label, *values in shown:
            vanilla, ogm_ge, difference = values[part.start - 1 : part.stop - 1]
            assert vanilla in cells[label] and {ogm_ge, difference} <= set(cells[f"{label} + ogm_ge"]), label
