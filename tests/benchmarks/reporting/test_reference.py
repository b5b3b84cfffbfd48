"""The committed results: made again from their records, and one run of them made again from nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.config.run_config import RunConfig, configure
from benchmarks.records.record import RunRecord
from benchmarks.records.store import read_records
from benchmarks.reporting import figures
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.experiment import resolve
from benchmarks.runner.run import run

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = ROOT / "results" / "reference"
FOLDERS = sorted(REFERENCE.iterdir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_tables_follow_from_the_records(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "render", lambda figure, kind: b"<svg></svg>")  # tested in test_figures.py; slow
    for name in ("records.jsonl.gz", "records.csv", "suite.json"):
        shutil.copy(folder / name, tmp_path)
    assert main(["tables", str(tmp_path)]) == 0
    capsys.readouterr()
    for path in [folder / "runs.csv", folder / "README.md", *sorted((folder / "tables").iterdir())]:
        assert (tmp_path / path.relative_to(folder)).read_text() == path.read_text(), path.name


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_records_come_from_one_commit_and_say_so(folder: Path) -> None:
    found = list(read_records(folder))
    assert all(RunConfig(**r.config).key == r.key for r in found)
    records = [r for r in found if r.provenance]  # a run that was refused or failed has made nothing
    assert {r.status for r in found if not r.provenance} <= {"skipped", "failed"}
    assert {(r.provenance["commit"], r.provenance["dirty"]) for r in records} == {
        (records[0].provenance["commit"], False)
    }


@pytest.mark.long
def test_a_run_of_the_reference_can_be_made_again(tmp_path: Path) -> None:
    """The whole run, 20 epochs. Another processor rounds differently, so it is compared as accuracies are read."""
    config = configure({"dataset": "synthav", "method": "unimodal", "method_args.modality": "audio", "seed": 0})
    place = RunEnvironment(REFERENCE / "synthav", tmp_path)
    committed = place.finished(resolve(config))
    assert committed is not None, "the reference has no audio-only run"
    again = run(config, RunEnvironment(tmp_path / "results", tmp_path))
    assert json.loads(json.dumps(again.data)) == committed.data
    for name in ("accuracy", "macro_f1"):
        assert again.test["last"][name] == pytest.approx(committed.test["last"][name], abs=0.02)
    assert isinstance(committed, RunRecord) and again.probe["audio"] == pytest.approx(
        committed.probe["audio"], abs=0.02
    )


def test_the_results_are_small_enough_for_git() -> None:
    kept = [path for path in REFERENCE.rglob("*") if path.is_file() and path.suffix not in (".html", ".pdf")]
    sizes = {path: path.stat().st_size for path in kept}
    logits = [size for path, size in sizes.items() if path.name == "logits.npz"]
    assert kept and sum(sizes.values()) - sum(logits) < 30e6 and sum(logits) < 80e6
    assert max(sizes.values()) < 50e6  # what hosts of repositories take without a warning
    assert not [path for path in kept if path.parent.name == "records"]
