"""Methods, fusions and encoders from files outside the project run by name, in the same tables; mistakes get a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.runs import ROOT, command, done, records

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


def test_they_run_beside_the_projects_own(tmp_path: Path) -> None:
    files = {"method": ("halved", METHOD), "fusion": ("widest", FUSION), "encoder": ("tiny", ENCODER)}
    flags = []
    for kind, (name, text) in files.items():
        (tmp_path / f"{name}.py").write_text(text)
        flags += [f"--{kind}-file", str(tmp_path / f"{name}.py")]
    settings = ["methods=vanilla,halved", "seeds=1", "epochs=1", "fusion=widest", "encoders.visual=tiny"]
    words = [w for w in command("compare", *settings, folder=tmp_path) if not w.startswith("encoder_args.visual")]
    made = done([*words, *flags, "--jobs", "1"])
    assert made.returncode == 0, made.stderr
    assert "halved" in made.stdout and "2 done" in made.stdout
    theirs, plain = (next(r for r in records(tmp_path) if r["config"]["method"] == m) for m in ("halved", "vanilla"))
    assert theirs["config"]["files"].keys() == {"halved", "widest", "tiny"}
    assert plain["config"]["files"].keys() == {"widest", "tiny"}
    assert theirs["curves"]["train/loss/fused"] != plain["curves"]["train/loss/fused"]
    (tmp_path / "halved.py").write_text(METHOD.replace("0.5", "0.25"))  # another content is another run
    assert done([*words, *flags, "--jobs", "1"]).returncode == 0
    keys = [json.loads(p.read_text())["key"] for p in (tmp_path / "results").rglob("widest/halved/*.json")]
    assert len(set(keys)) == 2


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
    made = done([*command("run", "epochs=1", folder=tmp_path), "--method-file", str(tmp_path / name)])
    (line,) = made.stderr.splitlines()
    assert made.returncode == 2 and said in line and name in line
    assert not (tmp_path / "results").exists()
