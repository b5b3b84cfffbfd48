"""What only reads does not wait for torch: each command in a process of its own, which says what it imported."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.config.run_config import configure
from benchmarks.records.suite_file import Recorded, save
from benchmarks.runner import generated
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.generated import Fingerprints
from datasets.registry import DATASETS
from datasets.synthav import SynthAV
from tests.helpers.commands import run_process
from tests.helpers.records import filled, record, small

SETTINGS = ["dataset=synthav", "epochs=4", "dataset_args.num_train=128"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a table, and with the record of the run that SETTINGS mean."""
    where = tmp_path_factory.mktemp("startup")
    config = configure({"epochs": 4, "dataset_args.num_train": 128})
    words = dict(RunEnvironment(where, where / "work").fingerprint(config))
    data = {"fingerprint": words, "report": {s: {"listed": 8, "found": 8} for s in words}, "notes": []}
    record(config, data=data).save(where)
    suite = small(seeds=1)
    for made in filled(suite, [[0.7], [0.8]]).values():
        made.save(where)
    save(where, Recorded({"suite": {"name": "small", "quick": False}}, suite))
    return where


def imported(words: list[str]) -> set[str]:
    """The modules that a command imports, if it succeeds."""
    done = run_process([sys.executable, "-X", "importtime", "-m", *words])
    assert done.returncode == 0, done.stderr[-2000:]
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


COMMANDS = {
    "list methods": "benchmarks list methods",
    "list methods NAME": "benchmarks list methods ogm_ge",
    "list fusions NAME": "benchmarks list fusions film",
    "list encoders NAME": "benchmarks list encoders timm:vit_tiny",
    "list datasets NAME": "benchmarks list datasets crema_d",
    "list suites NAME": "benchmarks list suites paper",
    "list fusions": "benchmarks list fusions",
    "list encoders": "benchmarks list encoders",
    "list datasets": "benchmarks list datasets",
    "list suites": "benchmarks list suites",
    "cite": "benchmarks cite method=ogm_ge dataset=crema_d",
    "datasets list": "datasets list",
    "datasets info": "datasets info crema_d",
    "show": "benchmarks show KEY --results FOLDER",
    "tables": "benchmarks tables FOLDER",
    "run": "benchmarks run SETTINGS --results FOLDER --work FOLDER/work",
    "grid": "benchmarks grid SETTINGS --results FOLDER --work FOLDER/work",
    "pack": "benchmarks pack FOLDER",
    "run, packed": "benchmarks run SETTINGS --results FOLDER --work FOLDER/work",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_reads_imports_no_torch(name: str, folder: Path) -> None:
    key = configure({"epochs": 4, "dataset_args.num_train": 128}).key
    words = COMMANDS[name].replace("KEY", key).replace("SETTINGS", " ".join(SETTINGS)).replace("FOLDER", str(folder))
    modules = imported(words.split())
    assert "argparse" in modules
    assert "torch" not in modules
    if name not in ("tables",):
        assert not modules & {"scipy", "sklearn", "pandas", "matplotlib"}


def test_no_dataset_imports_torch_before_it_computes() -> None:
    places = sorted({place.partition(":")[0] for place in DATASETS.values()})
    code = f"import sys, {', '.join(places)}; sys.exit('torch' in sys.modules)"
    assert run_process([sys.executable, "-c", code]).returncode == 0


def test_a_module_that_computes_is_seen() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import ogm.strategy"], capture_output=True, text=True, check=True
    )
    assert any(line.rpartition("|")[2].strip() == "torch" for line in done.stderr.splitlines())


def test_fingerprints_of_generated_data_are_kept_and_what_is_damaged_is_asked_again(tmp_path: Path) -> None:
    config = configure({"dataset_args.num_train": 64, "dataset_args.num_val": 8, "dataset_args.num_test": 8})
    words = RunEnvironment(tmp_path, tmp_path).fingerprint(config)
    (path,) = (tmp_path / "fingerprints").iterdir()
    for text in ("", "[]", "{}", '{"train": 1, "val": "a", "test": "b"}', "[" * 100_000):
        path.write_text(text)
        assert RunEnvironment(tmp_path, tmp_path).fingerprint(config) == words
    changed = dict.fromkeys(words, "0" * 12)
    Fingerprints(tmp_path, "synthav", "something else").write(changed)
    assert Fingerprints(tmp_path, "synthav", "something else").read() == changed
    assert RunEnvironment(tmp_path, tmp_path).fingerprint(config) == words


def test_fingerprints_are_asked_again_where_source_or_numpy_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"train": "a", "val": "b", "test": "c"}
    (tmp_path / "work").mkdir()
    Fingerprints(tmp_path / "work", "synthav", "options").write(words)
    assert Fingerprints(tmp_path / "work", "synthav", "options").read() == words
    with monkeypatch.context() as patch:
        patch.setattr(generated.np, "__version__", "0.1")
        assert Fingerprints(tmp_path / "work", "synthav", "options").read() is None
    for changed in ("datasets/core/regimes.py", "ogm/seeds.py"):
        for name in ("datasets", "ogm"):
            shutil.copytree(generated.ROOT / name, tmp_path / changed / name, ignore=shutil.ignore_patterns("*.gz"))
        with monkeypatch.context() as patch:
            patch.setattr(generated, "ROOT", tmp_path / changed)
            generated._source_digest.cache_clear()
            assert Fingerprints(tmp_path / "work", "synthav", "options").read() == words, "a copy has the same source"
            with (tmp_path / changed / changed).open("a") as file:
                file.write("# changed\n")
            generated._source_digest.cache_clear()
            assert Fingerprints(tmp_path / "work", "synthav", "options").read() is None
    generated._source_digest.cache_clear()


def test_fingerprints_of_a_class_from_elsewhere_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "mine", f"{__name__}:Mine")
    kept = Fingerprints(tmp_path, "mine", "mine")
    kept.write({"train": "a", "val": "b", "test": "c"})
    assert kept.read() is None and not list(tmp_path.iterdir())


class Mine(SynthAV):
    """Generated, too, but by a source that may change anywhere."""


def test_fingerprints_of_files_are_never_kept(tmp_path: Path) -> None:
    kept = Fingerprints(tmp_path, "crema_d", "crema_d")
    kept.write({"train": "a", "val": "b", "test": "c"})
    assert kept.read() is None and not list(tmp_path.iterdir())
