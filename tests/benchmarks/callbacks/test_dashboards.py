"""Dashboards show copies of runs: what they show is ours, and whatever happens to them, a run ends in the same record.

Each test is made for every dashboard with its real library; those that are not installed are skipped.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.callbacks import dashboards, wandb_file
from benchmarks.callbacks.base import Callbacks
from benchmarks.callbacks.dashboards import LIBRARIES, DashboardLogger, folder_of, log_report
from benchmarks.callbacks.run_page import LONGEST, group_of, run_name
from benchmarks.config.run_config import RunConfig, configure
from benchmarks.runner.events import EpochEnded, RunFinished, RunStarted
from tests.benchmarks.callbacks.readers import READERS, Shown
from tests.helpers.commands import ROOT, command, records, run_here, run_process
from tests.helpers.disks import disk
from tests.helpers.records import record

pytestmark = pytest.mark.filterwarnings("default")  # of other people's libraries

INSTALLED = [name for name, library in LIBRARIES.items() if find_spec(library.package)]
EACH = pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.skipif(n not in INSTALLED, reason=f"{LIBRARIES[n].requirement} is missing"))
        for n in LIBRARIES
    ],
)
SETTINGS = ("method=umt", "method_args.lam=20.0", "epochs=2")
HOSTILE = "../../up\x00\x1b[31m<script>alert(1)</script> $(touch x)|`x`\n" + "long" * 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder for all tests: trackio is bound to the first that it is imported for. It holds a run with teachers."""
    folder = tmp_path_factory.mktemp("shown")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WANDB_MODE", "offline")
        environment.setenv("TRACKIO_DIR", "")
        done = run_here([*command("run", *SETTINGS, folder=folder), "--log", ",".join(INSTALLED)])
        assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
        (folder / "printed").write_text(done.stdout)
        yield folder


def shown(folder: Path, name: str, title: str) -> Shown:
    """The one page of a run. wandb's own process writes an ended run down some time after its end."""
    found: list[Shown] = []
    for _ in range(100):
        found = [page for page in READERS[name](folder_of(folder / "results", name)) if title in page.name]
        if name != "wandb" or found:
            break
        time.sleep(0.1)
    assert len(found) == 1, found
    page = found[0]
    page.summary = {key.replace(".", "/"): value for key, value in page.summary.items()}  # MLflow's way
    return page


@EACH
def test_a_page_has_the_name_the_settings_the_curves_and_the_end_of_its_run(name: str, folder: Path) -> None:
    for made in records(folder):
        config = RunConfig(**made["config"])
        page = shown(folder, name, config.key)
        assert page.name == run_name(config) and page.group == group_of(folder / "results")
        assert page.job_type == ("run" if config.method == "umt" else "prerequisite")
        assert page.config["key"] == config.key and page.config["epochs"] == "2"
        if config.method == "umt":
            assert page.config["method_args.lam"] == "20.0" and "lam=20.0" in page.name
        for curve in ("val/accuracy", "val/loss"):
            expected = list(enumerate(made["curves"][curve], start=1))
            assert page.curves[curve] == [(epoch, pytest.approx(value)) for epoch, value in expected]
        assert any(curve.startswith("train/") for curve in page.curves)
        assert not [curve for curve in page.curves if "test" in curve]
        assert page.summary["status"] == "done"
        for selection in ("last", "val_best"):
            said = float(page.summary[f"test/{selection}/accuracy"])
            assert said == pytest.approx(made["test"][selection]["accuracy"])
        assert not [key for key in page.summary if "test_best" in key]


@EACH
def test_a_command_ends_with_how_to_look(name: str, folder: Path) -> None:
    lines = (folder / "printed").read_text().splitlines()
    place = str(folder_of(folder / "results", name))
    assert sum(place in line for line in lines) == 1
    assert f"wandb sync {folder}/results/dashboards/wandb/offline-run-*" in lines


@EACH
def test_a_run_that_goes_on_is_there_once_and_whole(name: str, folder: Path) -> None:
    config = configure({"method": "ogm_ge", "seed": 7, "epochs": 3})
    curve = [0.25, 0.5, 0.75]

    def logger(epochs: range, resumed_at: int) -> DashboardLogger:
        made = DashboardLogger(name, folder / "results", [config.key], "trial")
        made.on(RunStarted(config.key, config, 3, resumed_at, {"val/accuracy": curve[:resumed_at], "test/loss": curve}))
        for epoch in epochs:
            made.on(EpochEnded(config.key, epoch, {"val/accuracy": curve[epoch - 1], "test/accuracy": 0.9, "x": None}))
        return made

    logger(range(1, 3), 0).close()
    assert shown(folder, name, config.key).curves.keys() == {"val/accuracy"}
    logger(range(0), 2).close()  # stopped before the end of an epoch
    going_on = logger(range(3, 4), 2)
    going_on.on(RunFinished(config.key, config, record(config)))
    page = shown(folder, name, config.key)
    assert page.curves == {"val/accuracy": list(enumerate(curve, start=1))}
    assert page.job_type == "trial" and page.summary["status"] == "done"


@EACH
def test_hostile_names_stay_harmless(name: str, folder: Path, tmp_path: Path) -> None:
    before = {path for path in folder.rglob("*") if "dashboards" not in path.parts}
    config = configure({"method": "ogm_ge", "seed": 8, "epochs": 3})
    config = config.model_copy(update={"dataset_args": {"preset": HOSTILE, HOSTILE: [HOSTILE]}})
    with Callbacks([DashboardLogger(name, folder / "results", [config.key], "run")]) as callbacks:
        callbacks.on(RunStarted(config.key, config, 3, 0))
        callbacks.on(EpochEnded(config.key, 1, {"val/accuracy": 0.5, f"val/{HOSTILE}": 0.5}))
        callbacks.on(RunFinished(config.key, config, record(config, reason=HOSTILE)))
    page = shown(folder, name, config.key)
    assert re.fullmatch(r"[\w.,=+@\[\] -]+", page.name) and page.curves["val/accuracy"] == [(1, 0.5)]
    assert {path for path in folder.rglob("*") if "dashboards" not in path.parts} == before


@EACH
def test_tables_and_figures_are_a_page_of_their_own(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = {"tables/main.csv": "row,mean\nogm,0.5\n", "tables/main.md": "| row |\n| --- |\n| ogm |\n"}
    contents["figures/main.svg"] = "<svg xmlns='http://www.w3.org/2000/svg'/>"
    for file, content in contents.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(content)
    for _ in range(2):
        log_report([name], "A title", [tmp_path / file for file in contents], folder / "results")
    assert not capsys.readouterr().err
    group = group_of(folder / "results")
    page = shown(folder, name, f"{group} tables and figures")
    assert (page.group, page.job_type, page.config["title"]) == (group, "report", "A title")
    written = b"".join(p.read_bytes() for p in folder_of(folder / "results", name).rglob("*") if p.is_file())
    assert b"ogm" in written and (b"main" in written or name == "mlflow")


def test_names_differ_where_settings_differ() -> None:
    changes = [
        {},
        {"lr": 0.07},
        {"fusion": "film"},
        {"fusion": "film", "fusion_args": {"source": "audio"}},
        {"method_args": {"alpha": 0.3}},
        {"method_args": {"alpha": 0.30000001}},
        {"dataset_args": {"preset": "textbook"}},
        {"dataset_args": {"preset": "x" * 200 + "a" + "x" * 200}},
        {"dataset_args": {"preset": "x" * 200 + "b" + "x" * 200}},
        {"encoder_args": {"audio": {"widths": [8]}}},
        {"optimizer": "adam"},
        {"epochs": 7},
        {"seed": 1},
    ]
    names = [run_name(configure({"method": "ogm_ge", **change})) for change in changes]
    assert len(set(names)) == len(names) and max(map(len, names)) <= LONGEST
    assert re.fullmatch(r"synthav concat ogm_ge lr=0.07 preset=default data_seed=0 sgd seed 0 \w{12}", names[1])
    without_keys = [name.rpartition(" ")[0] for name in names]
    assert len(set(without_keys)) == len(names) - 1  # two differ only in the middle of 400 letters


@pytest.mark.parametrize(
    ("folder", "group"),
    [
        ("results/paper", "paper"),
        ("results/compare/synthav-concat-1a2b3c", "compare-synthav-concat-1a2b3c"),
        ("/", "runs"),
        ("/..", "runs"),
        ("results/.hidden", "hidden"),
        ("results/a b$(x)", "a b_x_"),
    ],
)
def test_a_group_is_the_results_folder(folder: str, group: str) -> None:
    assert group_of(Path(folder)) == group


def test_a_dashboard_that_cannot_be_had_is_one_line_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = dataclasses.replace(LIBRARIES["tensorboard"], package="not_installed_here")
    monkeypatch.setattr(dashboards, "LIBRARIES", {**LIBRARIES, "tensorboard": missing})
    for verb in ("run", "grid", "compare", "tune"):
        words = command(verb, *(("method=ogm",) if verb in ("run", "grid") else ("methods=ogm",)), folder=tmp_path)[3:]
        assert main([*words, "--log", "tensorboard"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "not_installed_here is not installed" in line and "-m pip install tensorboard==2.21.0" in line
    assert main([*command("run", folder=tmp_path)[3:], "--log", "wandb,tensorbord"]) == 2
    assert "did you mean 'tensorboard'" in capsys.readouterr().err
    assert main([*command("run", folder=tmp_path)[3:], "--log", "none,wandb"]) == 2
    assert not list(tmp_path.iterdir())


def test_the_versions_are_those_that_the_project_pins() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {name: [library.requirement] for name, library in LIBRARIES.items() if name != "wandb"} == {
        name: extras[name] for name in LIBRARIES if name != "wandb"
    }
    assert LIBRARIES["wandb"].requirement in (ROOT / "requirements.in").read_text().split()


def test_none_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = run_here([*command("run", "epochs=1", folder=tmp_path), "--log", "none"])
    assert done.returncode == 0 and "wandb" not in done.stdout
    assert not (tmp_path / "results" / "dashboards").exists()


def test_a_file_of_wandb_is_whole_with_its_last_byte_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown(folder, "wandb", "umt")
    written = [path.read_bytes() for path in folder_of(folder / "results", "wandb").rglob("run-*.wandb")]
    monkeypatch.setattr(wandb_file, "LONGEST_WAIT", 0.0)
    place = tmp_path / "run.wandb"
    assert not wandb_file.is_whole(place)
    place.write_bytes(max(written, key=len))
    assert wandb_file.is_whole(place)
    for missing in (1, 100, place.stat().st_size // 2, place.stat().st_size):
        place.write_bytes(max(written, key=len)[:-missing])
        assert not wandb_file.is_whole(place), missing


def own_environment(place: Path) -> dict[str, str]:
    """For a command whose dashboard is in a folder, and not where an earlier test has put it in this process.

    wandb tells its children to share its process, in which a run goes on after the command that made it was killed.
    """
    return {"WANDB_MODE": "offline", "WANDB_SERVICE": "", "TRACKIO_DIR": str(place)}


@pytest.mark.long
@EACH
def test_what_a_killed_process_has_written_can_be_read_and_goes_on(name: str, tmp_path: Path) -> None:
    place, log = folder_of(tmp_path / "results", name), tmp_path / "events.jsonl"
    words = [*command("run", "method=ogm_ge", "epochs=60", folder=tmp_path), "--log", name]
    environment = own_environment(place)

    def read() -> list[list[float]]:
        """The points of the validation curve, read by another process: trackio is bound to one folder in each."""
        code = "import json, sys, pathlib; from tests.benchmarks.callbacks.readers import READERS as r; "
        code += "print(json.dumps([p.curves['val/accuracy'] for p in r[sys.argv[1]](pathlib.Path(sys.argv[2]))]))"
        done = run_process([words[0], "-c", code, name, str(place)], MLFLOW_ALLOW_FILE_STORE="true", **environment)
        assert done.returncode == 0, done.stderr
        (points,) = json.loads(done.stdout.splitlines()[-1])
        return points

    process = subprocess.Popen([*words, "--log-events", str(log)], cwd=ROOT, env={**os.environ, **environment})
    try:
        while not log.exists() or log.read_text().count("EpochEnded") < 30:
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    kept = read()
    assert kept == [[epoch, value] for epoch, value in kept if epoch <= 60] and (kept or name == "wandb")
    again = run_process(words, **environment)
    assert again.returncode == 0 and "warning" not in again.stderr, again.stderr
    (made,) = records(tmp_path)
    assert read() == [[epoch, pytest.approx(value)] for epoch, value in enumerate(made["curves"]["val/accuracy"], 1)]


@pytest.mark.long
def test_wandb_without_a_key(tmp_path: Path) -> None:
    words = command("run", "epochs=1", folder=tmp_path)
    said = run_process(
        words, WANDB_MODE="online", WANDB_API_KEY="", HOME=str(tmp_path), WANDB_BASE_URL="http://127.0.0.1:9"
    )
    assert said.returncode == 0 and "warning: wandb: " in said.stderr, said.stderr
    assert "our own records are complete" in said.stderr
    assert records(tmp_path)


@pytest.mark.long
@EACH
def test_a_full_disk(name: str, tmp_path: Path) -> None:
    place = folder_of(tmp_path / "results", name)
    with disk(place, "size=4k"):  # less than any of them needs for a run
        said = run_process([*command("run", "epochs=1", folder=tmp_path), "--log", name], **own_environment(place))
        assert said.returncode == 0 and f"warning: {name}: " in said.stderr, said.stderr
        assert [made["status"] for made in records(tmp_path)] == ["done"]


FILLED = """
import sys, time
from pathlib import Path

from benchmarks.callbacks.base import Callbacks
from benchmarks.callbacks.dashboards import DashboardLogger, folder_of
from benchmarks.config.run_config import configure
from benchmarks.runner.events import EpochEnded, RunFinished, RunStarted
from tests.helpers.records import record

name, results, how = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
config = configure({"method": "ogm_ge", "seed": 8, "epochs": 3})
filler = folder_of(results, name) / "filler"
with Callbacks([DashboardLogger(name, results, [config.key], "run")]) as callbacks:
    callbacks.on(RunStarted(config.key, config, 3, 0))
    callbacks.on(EpochEnded(config.key, 1, {"val/accuracy": 0.5}))
    time.sleep(2)  # until the threads and processes of the libraries have written it
    try:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
    except OSError:
        print("full")
    for epoch in () if how == "late" else (2, 3):  # wandb keeps an epoch to itself until the next one comes
        callbacks.on(EpochEnded(config.key, epoch, {f"val/{number}": 0.5 for number in range(2000)}))
    if how == "freed":
        time.sleep(2)
        filler.unlink()
    callbacks.on(RunFinished(config.key, config, record(config, reason="long" * 5000)))
"""


@pytest.mark.long
@EACH
@pytest.mark.parametrize("how", ["early", "late", "freed"])
def test_a_disk_that_fills_up_during_a_run(name: str, how: str, tmp_path: Path) -> None:
    """The gap is told of: before the last epochs, before the end alone, and where there is space again at the end."""
    place = folder_of(tmp_path / "results", name)
    with disk(place, "size=2m"):
        words = [sys.executable, "-c", FILLED, name, str(tmp_path / "results"), how]
        said = run_process(words, **own_environment(place))
        assert (said.returncode, said.stdout) == (0, "full\n"), said.stderr
        assert said.stderr.count(f"warning: {name}: ") == 1, said.stderr
