"""Methods, fusions and encoders from a file of somebody else's, by name in every command."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from benchmarks.config.run_config import FILES, ConfigError
from models.registry import ENCODERS, FUSIONS
from ogm.registry import STRATEGIES

Kind = Literal["method", "fusion", "encoder"]
_KINDS: dict[Kind, tuple[dict[str, str], str, str]] = {
    "method": (STRATEGIES, "ogm.strategy", "Strategy"),
    "fusion": (FUSIONS, "models.fusion", "Fusion"),
    "encoder": (ENCODERS, "models.encoder", "Encoder"),
}


def register(files: Sequence[tuple[Kind, Path]]) -> None:
    """Make the class in each file known under the file's name. Once for each process; the same file twice is one.

    A file holds one class of its kind (besides those whose names begin with an underscore). Its content is part of the
    configuration of every run that uses it, by sha256. Raises ConfigError, one line per file that will not do.
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
    names, home, base = _KINDS[kind]
    name, flag = path.stem, f"--{kind}-file {path}"
    if path.suffix != ".py" or not name.isidentifier() or not path.is_file():
        raise ConfigError([f"{flag}: no such Python file; its name, such as my_{kind}.py, becomes the {kind}'s name"])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    if FILES.get(name) == digest:
        return
    if name in names:
        raise ConfigError([f"{flag}: there is a {kind} called {name} already; give the file another name"])
    module = f"_{kind}_file_{name}"
    spec = importlib.util.spec_from_file_location(module, path)
    assert spec is not None and spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    sys.modules[module] = code  # before it runs: dataclasses look their module up
    try:
        spec.loader.exec_module(code)
    except Exception as error:  # whatever is wrong in somebody else's file is theirs to mend: say where
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else 0
        raise ConfigError([f"{flag}: line {line}: {type(error).__name__}: {' '.join(str(error).split())}"]) from None
    parent = getattr(importlib.import_module(home), base)
    found = [
        c.__name__
        for c in vars(code).values()
        if isinstance(c, type) and issubclass(c, parent) and c.__module__ == module and not c.__name__.startswith("_")
    ]
    if len(found) != 1:
        raise ConfigError([f"{flag}: holds {len(found)} classes derived from {home}.{base}; it needs exactly one"])
    names[name] = f"{module}:{found[0]}"
    FILES[name] = digest
