"""What there is to know about methods, fusions and encoders before any of them is used.

Their classes know it, and importing one brings torch, which takes seconds; a fusion has to be built for its number of
parameters. So ``parts.json`` keeps it, with a digest of each class's source: where that has changed since, and for
classes of the user's own, the class is asked. ``python -m tests.parts`` writes the file anew.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.config.example_input import CLASSES, SHAPES
from benchmarks.config.method_defaults import METHODS
from models.registry import ENCODERS, FAMILIES, FUSIONS
from ogm.registry import STRATEGIES, find

FILE = Path(__file__).with_name("parts.json")
KINDS: Mapping[str, Mapping[str, str]] = {
    "method": STRATEGIES,
    "fusion": FUSIONS,
    "encoder": ENCODERS,
    "encoder family": FAMILIES,
}


def facts(kind: str, name: str) -> dict[str, str]:
    """What is told of one part: the columns of ``python -m benchmarks list``, and a method's title.

    Args:
        kind: One of ``KINDS``.
        name: A registered name of this kind.

    Raises:
        ValueError: There is no such name.
    """
    place = KINDS[kind].get(name, "")
    kept = _kept().get(kind, {}).get(name, {})
    if kept and kept["source"] == source_digest(place):
        return dict(kept["facts"])
    return ask(kind, name)


@functools.cache
def _kept() -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(FILE.read_text("utf-8"))
    return found


def source_digest(place: str) -> str:
    """Twelve hex digits for the source of the module in ``"module:class"``; empty for one outside the project."""
    path = Path(__file__).parents[2].joinpath(*place.partition(":")[0].split(".")).with_suffix(".py")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else ""


def ask(kind: str, name: str) -> dict[str, str]:
    """As ``facts``, from the class itself. Raises ValueError where there is no such name."""
    asked: dict[str, Callable[[type[Any], str], dict[str, str]]] = {
        "method": _method,
        "fusion": _fusion,
        "encoder": _encoder,
        "encoder family": _family,
    }
    return asked[kind](find(name, KINDS[kind], kind), name)


def _method(cls: type[Any], name: str) -> dict[str, str]:
    forward, backward = example(cls, name).passes(2) if cls.trains else (0, 0)
    most = cls.most_modalities
    return {
        "title": str(vars(cls).get("title", "")),  # one that is inherited is another method's
        "category": cls.category,
        "paper": cls.paper,
        "modalities": "2 or more" if most is None else "2" if most == 2 else f"2 to {most}",
        "passes": f"{forward} + {backward}",
        "stages": cls.stages,
        "defaults": defaults(cls),
    }


def _fusion(cls: type[Any], _: str) -> dict[str, str]:
    logits = "exact parts" if cls.is_additive else "own classifiers" if cls.has_unimodal_heads else "others at zero"
    return {
        "needs": cls.input_kind,
        "additive": "yes" if cls.is_additive else "no",
        "unimodal logits": logits,
        "parameters": f"{fusion_parameters(cls):,}",
        "source": cls.source,
        "defaults": defaults(cls, "dims", "num_classes"),
    }


def _encoder(cls: type[Any], _: str) -> dict[str, str]:
    sizes = {m: encoder_parameters(cls, shape) for m, shape in SHAPES.items()}
    return {
        **{m: f"{size[0]:,}" if size else "-" for m, size in sizes.items()},
        "gives": "features, maps, tokens" if any(size and size[1] for size in sizes.values()) else "features",
        "weights": "scratch, imagenet, file" if "weights" in inspect.signature(cls).parameters else "scratch",
        "source": cls.source,
        "defaults": defaults(cls, "shape"),
    }


def _family(cls: type[Any], name: str) -> dict[str, str]:
    return {
        "gives": "features",
        "weights": "scratch, file" if name == "timm" else "scratch, imagenet, file",
        "source": "timm, an extra: pip install timm" if name == "timm" else cls.source,
        "defaults": defaults(cls, "shape", "name"),
    }


def example(cls: type[Any], name: str) -> Any:
    """A strategy with its usual options; one that it cannot do without, such as a modality's name, is filled in."""
    usual = METHODS[name].everywhere if name in METHODS else {}
    missing = {p.name: "audio" for p in inspect.signature(cls).parameters.values() if p.default is p.empty}
    return cls(**{**missing, **usual})


def defaults(cls: type[Any], *given: str) -> str:
    """The options of a class's constructor with their defaults, but for those that every caller gives."""
    parameters = [p for p in inspect.signature(cls).parameters.values() if p.name not in given]
    return " ".join(f"{p.name}={'?' if p.default is p.empty else p.default}" for p in parameters)


def fusion_parameters(cls: type[Any]) -> int:
    """How many parameters a fusion adds to two ResNet-18s, for six classes."""
    import torch

    from models.encoders.resnet import ResNet18
    from models.model import MultimodalModel

    with torch.device("meta"):  # sizes without values
        encoders = {m: ResNet18((1, 32, 32)) for m in SHAPES}
        model = MultimodalModel(encoders, cls({m: e.dim for m, e in encoders.items()}, CLASSES))
    inside = sum(p.numel() for e in encoders.values() for p in e.parameters())
    return int(sum(p.numel() for p in model.parameters()) - inside)


def encoder_parameters(cls: type[Any], shape: tuple[int, ...]) -> tuple[int, bool] | None:
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
