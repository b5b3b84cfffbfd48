"""A record says which versions and which machine its numbers come from."""

from __future__ import annotations

import sys

import numpy
import pytest
import scipy
import sklearn
import torch
import torchaudio
import torchvision

from benchmarks.runner.provenance import provenance


def test_versions_machine_and_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "run", "seed=1"])
    told = provenance("cpu", 2)
    modules = (torch, torchvision, torchaudio, numpy, scipy)
    assert told["torch"] == torch.__version__
    for module in modules:  # the package's version has the build where it is the one for CPUs alone
        assert told[module.__name__] in (module.__version__, module.__version__.partition("+")[0])
    assert told["scikit-learn"] == sklearn.__version__
    assert told["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert (told["threads"], told["ranks"], told["command"]) == (2, 1, "python -m benchmarks run seed=1")
    assert told["device"] and len(told["commit"]) in (7, 40)
