"""Any classification network of torchvision, by name: torchvision:efficientnet_b0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision import models

from models.encoder import Encoder, channels, measure_width
from models.layers import Pooling, TimePooling
from models.weights import load_weights, set_channels
from ogm.registry import closest


class Torchvision(Encoder):
    """A network of torchvision without its last linear layer, whose input is the feature.

    It is initialised as torchvision does it. It does not show its levels, so it feeds fusions of features only.

    Args:
        shape: Of a sample, (C, H, W) or (C, T, H, W); the first convolution gets C channels.
        name: Of the network in torchvision.
        weights: "imagenet", or the path of a state dict under torchvision's names; None to start untrained.
        pool: How frames are pooled over time.

    Raises:
        ValueError: For a network that torchvision does not have, an input that it cannot take, or weights that are not
            there or do not fit.
    """

    source = "torchvision"

    def __init__(self, shape: Sequence[int], name: str, *, weights: str | None = None, pool: Pooling = "mean") -> None:
        super().__init__()
        names = models.list_models(module=models)
        if name not in names:
            near = ", ".join(closest(name, names, 3)) or "none"
            raise ValueError(f"torchvision has no classification network {name!r}; near it: {near}")
        network, head = without_classifier(name, shape)
        set_channels(network, channels(shape))
        if weights is not None:
            load_weights(network, weights, name, head)
        if weights == "imagenet" and hasattr(network, "transform_input"):
            network.transform_input = channels(shape) == 3  # GoogLeNet's and Inception's want other means
        self.network = network
        self.dim = measure_width(network, shape, f"torchvision:{name}")
        self.over_time = TimePooling(pool, self.dim)

    def maps(self, x: Tensor) -> Tensor:
        """Compute the network's features of images (N, C, H, W), as maps (N, dim, 1, 1)."""
        features: Tensor = self.network(x)
        return features[..., None, None]


def without_classifier(name: str, shape: Sequence[int]) -> tuple[Any, str]:
    """Make a network of torchvision and take its classifier away.

    Args:
        name: Of the network in torchvision.
        shape: Of a sample, (..., H, W); some networks are made for one size.

    Returns:
        The network, (N, 3, H, W) -> (N, dim), and the name that its classifier had.

    Raises:
        ValueError: For inputs that the network cannot take.
    """
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
        reason = " ".join(str(error).split()) or "it does not say why"
        raise ValueError(f"torchvision:{name} cannot take inputs of shape {tuple(shape)}: {reason}") from None
    if name.startswith("squeezenet"):  # it classifies by a convolution
        network.classifier = nn.AdaptiveAvgPool2d(1)
        return network, "classifier"
    last = [n for n, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    parent, _, attribute = last.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    return network, last
