"""What ``python -m benchmarks list`` and the tables tell of methods, fusions and encoders, without importing them.

Their classes know it, but importing one brings torch, which takes seconds, and a fusion has to be built before its
parameters can be counted. So ``parts.json`` has it, a line for each name; ``python -m tests.paper_and_code`` writes the
file anew, and ``tests/benchmarks/config/test_parts.py`` compares it with the classes. A class of the user's own is
asked itself.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.config.example_input import CLASSES, SHAPES
from benchmarks.config.method_defaults import METHODS
from benchmarks.config.method_text import method_text
from models.registry import ENCODERS, FAMILIES, FUSIONS
from ogm.registry import STRATEGIES, find

FILE = Path(__file__).with_name("parts.json")
KINDS: Mapping[str, Mapping[str, str]] = {
    "method": STRATEGIES,
    "fusion": FUSIONS,
    "encoder": ENCODERS,
    "encoder family": FAMILIES,
}
_NEEDS = {
    "needs_additive": "a fusion whose logits are the sum or mean of unimodal ones",
    "needs_whole_batch": "the whole batch at once",
    "needs_engine": "the suite's training loop",
    "needs_optimizer": "the optimizer, whose updates it scales",
}


def facts(kind: str, name: str) -> dict[str, str]:
    """What is told of one part. Where there are several things to say under one heading, each has a line.

    Args:
        kind: One of ``KINDS``.
        name: A registered name of this kind.

    Returns:
        Heading -> text, which may be empty.

    Raises:
        ValueError: There is no such name.
    """
    return _kept()[kind].get(name) or ask(kind, name)


def content() -> str:
    """What ``parts.json`` has to say today, from the classes: JSON with a line for each name."""
    kinds = []
    for kind, names in KINDS.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(ask(kind, name))}" for name in names]
        kinds.append(f" {json.dumps(kind)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(kinds) + "\n}\n"


@functools.cache
def _kept() -> dict[str, dict[str, dict[str, str]]]:
    kept: dict[str, dict[str, dict[str, str]]] = json.loads(FILE.read_text("utf-8"))
    return kept


def ask(kind: str, name: str) -> dict[str, str]:
    """As ``facts``, from the class itself. Raises ValueError where there is no such name."""
    asked: dict[str, Callable[[type[Any], str], dict[str, str]]] = {
        "method": _method,
        "fusion": _fusion,
        "encoder": _encoder,
        "encoder family": _family,
    }
    return asked[kind](find(name, KINDS[kind], kind), name)


def docstring(place: str) -> str:
    """The docstring of a class of ``KINDS``, from its source: the module is not imported.

    Args:
        place: Where it is, as ``"module:class"``.
    """
    module, _, name = place.partition(":")
    if module in sys.modules:
        return getattr(sys.modules[module], name).__doc__ or ""
    spec = importlib.util.find_spec(module)
    source = Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    return ast.get_docstring(classes[name]) or ""


def _method(cls: type[Any], name: str) -> dict[str, str]:
    text = method_text(cls.__doc__)
    forward, backward = _example(cls, name).passes(2) if cls.trains else (0, 0)
    most = cls.most_modalities
    return {
        "title": str(vars(cls).get("title", "")),  # one that is inherited is another method's
        "idea": text.idea,
        "kind": cls.category,
        "balances": "2 or more" if most is None else "2" if most == 2 else f"2 to {most}",
        "cost": f"{forward} + {backward}\n{cls.stages}".rstrip(),
        "needs": "\n".join(words for attribute, words in _NEEDS.items() if getattr(cls, attribute)),
        "predicts": "" if cls.prediction == "fused" else cls.prediction,
        "paper": "\n".join([*(text.papers if text.references else [cls.paper]), *text.arxiv]),
        "code": "\n".join(text.code),
        "options": "\n".join(class_options(cls)),
    }


def _fusion(cls: type[Any], _: str) -> dict[str, str]:
    logits = "exact parts" if cls.is_additive else "own classifiers" if cls.has_unimodal_heads else "others at zero"
    return {
        "needs": cls.input_kind,
        "additive": "yes" if cls.is_additive else "no",
        "unimodal logits": logits,
        "parameters": f"{_fusion_parameters(cls):,}",
        "source": cls.source,
        "defaults": "\n".join(class_options(cls, "dims", "num_classes")),
    }


def _encoder(cls: type[Any], _: str) -> dict[str, str]:
    sizes = {m: _encoder_parameters(cls, shape) for m, shape in SHAPES.items()}
    return {
        **{m: f"{size[0]:,}" if size else "-" for m, size in sizes.items()},
        "gives": "features, maps, tokens" if any(size and size[1] for size in sizes.values()) else "features",
        "weights": "scratch, imagenet, file" if "weights" in inspect.signature(cls).parameters else "scratch",
        "source": cls.source,
        "defaults": "\n".join(class_options(cls, "shape")),
    }


def _family(cls: type[Any], name: str) -> dict[str, str]:
    return {
        "audio": "",
        "visual": "",
        "gives": "features",
        "weights": "scratch, file" if name == "timm" else "scratch, imagenet, file",
        "source": "timm, an extra: pip install timm" if name == "timm" else cls.source,
        "defaults": "\n".join(class_options(cls, "shape", "name")),
    }


def _example(cls: type[Any], name: str) -> Any:
    """A strategy with its usual options; one that it cannot do without, such as a modality's name, is filled in."""
    usual = METHODS[name].everywhere if name in METHODS else {}
    missing = {p.name: "audio" for p in inspect.signature(cls).parameters.values() if p.default is p.empty}
    return cls(**{**missing, **usual})


def class_options(cls: type[Any], *given: str) -> list[str]:
    """The options of a class's constructor as "option=default", but for those that every caller gives."""
    parameters = [p for p in inspect.signature(cls).parameters.values() if p.name not in given]
    return [f"{p.name}={'?' if p.default is p.empty else p.default}" for p in parameters]


def _fusion_parameters(cls: type[Any]) -> int:
    """How many parameters a fusion adds to two ResNet-18s, for six classes."""
    import torch

    from models.encoders.resnet import ResNet18
    from models.model import MultimodalModel

    with torch.device("meta"):  # sizes without values
        encoders = {m: ResNet18((1, 32, 32)) for m in SHAPES}
        model = MultimodalModel(encoders, cls({m: e.dim for m, e in encoders.items()}, CLASSES))
    inside = sum(p.numel() for e in encoders.values() for p in e.parameters())
    return int(sum(p.numel() for p in model.parameters()) - inside)


def _encoder_parameters(cls: type[Any], shape: tuple[int, ...]) -> tuple[int, bool] | None:
    """How large an encoder is for one kind of input.

    Args:
        cls: The encoder's class.
        shape: The shape of a sample.

    Returns:
        Its number of parameters, and whether it shows its maps; None if it takes no such inputs.
    """
    import torch

    try:
        with torch.device("meta"):
            encoder = cls(shape)
    except ValueError:
        return None
    return sum(p.numel() for p in encoder.parameters()), bool(encoder.widths)
