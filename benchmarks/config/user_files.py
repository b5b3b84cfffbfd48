"""Methods, fusions, encoders and datasets from files of the user's own, by name in every command."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal

from benchmarks.config.run_config import FILES, ConfigError
from datasets.registry import DATASETS
from models.registry import ENCODERS, FUSIONS
from ogm.registry import STRATEGIES

Kind = Literal["method", "fusion", "encoder", "dataset"]
# What a file holds -> the registry it enters, and the module and name of the class that its own class derives from.
KINDS: dict[Kind, tuple[dict[str, str], str, str]] = {
    "method": (STRATEGIES, "ogm.strategy", "Strategy"),
    "fusion": (FUSIONS, "models.fusion", "Fusion"),
    "encoder": (ENCODERS, "models.encoder", "Encoder"),
    "dataset": (DATASETS, "datasets.core.base", "MultimodalDataset"),
}


def register(files: Sequence[tuple[Kind, Path]]) -> None:
    """Make the class in each file known under the file's name, in this process. The same file twice is one.

    A file holds one class of its kind, besides those whose names begin with an underscore. Its content is part of the
    configuration of every run that uses it, by sha256. A file is a program: its code is executed.

    Args:
        files: What each file holds, and its path.

    Raises:
        ConfigError: One line for each file that cannot be used.
    """
    mistakes = []
    for kind, path in files:
        try:
            _register(kind, path)
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)


def _register(kind: Kind, path: Path) -> None:
    names, home, base = KINDS[kind]
    name, flag = path.stem, f"--{kind}-file {path}"
    if path.suffix != ".py" or not name.isidentifier() or not path.is_file():
        raise ConfigError([f"{flag}: no such Python file; its name, such as my_{kind}.py, becomes the {kind}'s name"])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    if FILES.get(name) == digest and name in names:
        return
    if name in names:
        raise ConfigError([f"{flag}: there is a {kind} called {name} already; give the file another name"])
    if name in FILES:  # a configuration knows files by their names alone
        raise ConfigError([f"{flag}: another file is called {name}, too; give one of them another name"])
    module = _execute(f"_{kind}_file_{name}", path, flag)
    parent = getattr(importlib.import_module(home), base)
    classes = [
        c.__name__
        for c in vars(module).values()
        if isinstance(c, type)
        and issubclass(c, parent)
        and c.__module__ == module.__name__
        and not c.__name__.startswith("_")
    ]
    if len(classes) != 1:
        raise ConfigError([f"{flag}: holds {len(classes)} classes derived from {home}.{base}; it needs exactly one"])
    if kind == "dataset" and not hasattr(getattr(module, classes[0]), "module"):
        raise ConfigError([f"{flag}: {classes[0]} needs a class method module(**options) that returns a DataModule"])
    names[name] = f"{module.__name__}:{classes[0]}"
    FILES[name] = digest


def _execute(name: str, path: Path, flag: str) -> ModuleType:
    """The file as a module. Raises ConfigError, with the line, for whatever is wrong in it."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file raises is its author's to mend
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else 0
        raise ConfigError([f"{flag}: line {line}: {type(error).__name__}: {' '.join(str(error).split())}"]) from None
    return module
