"""Methods, fusions, encoders, datasets and suites from files outside the project; mistakes in them get a line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT, command, records, run_here

METHOD = (ROOT / "examples" / "halved.py").read_text()
FUSION = '''
import torch

from models.fusion import Fusion
from models.layers import linear


class Widest(Fusion):
    """The largest of all features, coordinate by coordinate."""

    def __init__(self, dims, num_classes):
        super().__init__(dims, num_classes)
        self.head = linear(max(dims.values()), num_classes)

    def fuse(self, features, present):
        return self.head(torch.stack(list(features.values())).amax(0))
'''
ENCODER = """
import torch.nn as nn

from models.encoder import Encoder, channels


class Tiny(Encoder):
    dim = 8

    def __init__(self, shape):
        super().__init__()
        self.layer = nn.Conv2d(channels(shape), 8, 3, 2)

    def maps(self, x):
        return self.layer(x).relu()
"""


@pytest.mark.long
def test_they_run_beside_the_projects_own(tmp_path: Path) -> None:
    files = {"method": ("halved", METHOD), "fusion": ("widest", FUSION), "encoder": ("tiny", ENCODER)}
    flags = []
    for kind, (name, text) in files.items():
        (tmp_path / f"{name}.py").write_text(text)
        flags += [f"--{kind}-file", str(tmp_path / f"{name}.py")]
    settings = ["methods=vanilla,halved", "seeds=1", "epochs=1", "fusion=widest", "encoders.visual=tiny"]
    words = [w for w in command("compare", *settings, folder=tmp_path) if not w.startswith("encoder_args.visual")]
    made = run_here([*words, *flags, "--jobs", "1"])
    assert made.returncode == 0, made.stderr
    assert "halved" in made.stdout and "2 done" in made.stdout
    theirs, plain = (next(r for r in records(tmp_path) if r["config"]["method"] == m) for m in ("halved", "vanilla"))
    assert theirs["config"]["files"].keys() == {"halved", "widest", "tiny"}
    assert plain["config"]["files"].keys() == {"widest", "tiny"}
    assert theirs["curves"]["train/loss/fused"] != plain["curves"]["train/loss/fused"]
    (tmp_path / "halved.py").write_text(METHOD.replace("0.5", "0.25"))  # another content is another run
    assert run_here([*words, *flags, "--jobs", "1"]).returncode == 0
    keys = [json.loads(p.read_text())["key"] for p in (tmp_path / "results").rglob("widest/halved/*.json")]
    assert len(set(keys)) == 2


@pytest.mark.long
def test_a_suite_and_a_dataset_of_ones_own(tmp_path: Path) -> None:
    """The example of both: records and tables like those of any other, and a folder that knows its suite's content."""
    for name in ("two_noises.py", "two_noises.yaml"):
        shutil.copy(ROOT / "examples" / name, tmp_path)
    words = [sys.executable, "-m", "benchmarks", "reproduce", "--suite", str(tmp_path / "two_noises.yaml")]
    words += ["--dataset-file", str(tmp_path / "two_noises.py"), "--jobs", "1", "--seeds", "1"]
    words += ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    made = run_here(words)
    assert made.returncode == 0, made.stderr
    assert "2 runs: 2 done" in made.stdout
    first, second = records(tmp_path)
    assert first["config"]["files"].keys() == second["config"]["files"].keys() == {"two_noises"}
    assert first["config"]["epochs"] == 5, "the recipe is that of the dataset's class"
    table = (tmp_path / "results" / "tables" / "methods-two-noises.md").read_text()
    assert "ogm_ge" in table and "1/1" in table
    (tmp_path / "results" / "README.md").unlink()
    assert run_here([*words[:3], "tables", str(tmp_path / "results")]).returncode == 0, "tables need none of the files"
    assert (tmp_path / "results" / "README.md").exists()
    text = (tmp_path / "two_noises.yaml").read_text()
    (tmp_path / "two_noises.yaml").write_text(text.replace("Joint training", "Joint"))
    refused = run_here(words)
    assert refused.returncode == 2 and "two_noises.yaml as it was before it was changed" in refused.stderr


def test_names_are_given_once(tmp_path: Path) -> None:
    """A configuration knows a file by its name alone, so two files of one name cannot both be in it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "twin.py").write_text(METHOD)
    (tmp_path / "a" / "twin.py").write_text(FUSION)
    flags = ["--method-file", str(tmp_path / "twin.py"), "--fusion-file", str(tmp_path / "a" / "twin.py")]
    made = run_here([*command("run", folder=tmp_path), *flags])
    assert made.returncode == 2 and "another file is called twin" in made.stderr


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("broken.py", "def f(:", "line 1: SyntaxError"),
        ("raises.py", "x = 1\n1 / 0", "line 2: ZeroDivisionError"),
        ("empty.py", "", "holds 0 classes"),
        ("ogm.py", METHOD, "there is a method called ogm already"),
        ("no-name.py", METHOD, "no such Python file"),
        ("text.txt", METHOD, "no such Python file"),
        ("two.py", METHOD + METHOD.replace("Halved", "Other"), "holds 2 classes"),
    ],
)
def test_a_file_that_will_not_do(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    made = run_here([*command("run", "epochs=1", folder=tmp_path), "--method-file", str(tmp_path / name)])
    (line,) = made.stderr.splitlines()
    assert made.returncode == 2 and said in line and name in line
    assert not (tmp_path / "results").exists()
