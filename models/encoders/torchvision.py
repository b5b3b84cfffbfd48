"""Any classification network of torchvision, by name: torchvision:efficientnet_b0."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from models.encoder import Encoder, Pool, Pooling, channels
from models.weights import load, set_channels


class Torchvision(Encoder):
    """Without its last linear layer, whose input is the feature; initialised as torchvision does it.

    The first convolution gets as many channels as ``shape`` (C, H, W) or (C, T, H, W) has. ``weights`` is "imagenet" or
    a file (models/weights.py). A closed box: for fusions of features. ValueError for an input it cannot take.
    """

    source = "torchvision"

    def __init__(self, shape: Sequence[int], name: str, *, weights: str | None = None, pool: Pooling = "mean") -> None:
        super().__init__()
        names = models.list_models(module=models)
        if name not in names:
            near = difflib.get_close_matches(name, names, 3)
            raise ValueError(
                f"torchvision has no classification network {name!r}; near it: {', '.join(near) or 'none'}"
            )
        self.network, head = bare(name, shape)
        set_channels(self.network, channels(shape))
        if weights is not None:
            load(self.network, weights, name, head)
        if weights == "imagenet" and hasattr(self.network, "transform_input"):
            self.network.transform_input = channels(shape) == 3  # GoogLeNet's and Inception's want other means
        self.dim = width(self.network, shape, f"torchvision:{name}")
        self.over_time = Pool(pool, self.dim)

    def maps(self, x: Tensor) -> Tensor:
        features: Tensor = self.network(x)
        return features[..., None, None]


def bare(name: str, shape: Sequence[int]) -> tuple[nn.Module, str]:
    """The network without its classifier, and what that was called."""
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        if shape[-1] != shape[-2]:
            raise ValueError(
                f"torchvision:{name} takes square images, not {shape[-2]} x {shape[-1]}; encoder vit takes any"
            )
        options = {"image_size": shape[-1]}
    elif name.startswith("maxvit"):
        options = {"input_size": tuple(shape[-2:])}
    try:
        network: Any = models.get_model(name, weights=None, **options)
    except (ValueError, AssertionError, RuntimeError) as error:
        said = " ".join(str(error).split()) or "it does not say why"
        raise ValueError(f"torchvision:{name} cannot take inputs of shape {tuple(shape)}: {said}") from None
    if name.startswith("squeezenet"):  # it classifies by a convolution
        network.classifier = nn.AdaptiveAvgPool2d(1)
        return network, "classifier"
    last = [n for n, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    parent, _, attribute = last.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    return network, last


def width(network: nn.Module, shape: Sequence[int], name: str) -> int:
    """What a network makes of one image, by trying; nothing in it changes."""
    image = torch.zeros(1, channels(shape), *shape[-2:])
    try:
        with torch.no_grad():
            return int(network.eval()(image).shape[1])
    except (RuntimeError, AssertionError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{name} cannot take inputs of shape {tuple(shape)}: {said}") from None
    finally:
        network.train()
