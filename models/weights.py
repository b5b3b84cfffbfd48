"""Weights that somebody else has trained: ImageNet's, through torchvision's own loader, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model

__all__ = ["fewer_channels", "fill", "first_convolution", "load_weights", "read_state_dict", "set_channels"]

AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # heads that GoogLeNet and Inception are trained with


def load_weights(network: nn.Module, weights: str, name: str, head: str) -> None:
    """Fill a torchvision network with trained weights, in place.

    Args:
        network: The network, without its classifier.
        weights: "imagenet", or the path of a state dict as torch saves it, under torchvision's names.
        name: Of the network in torchvision.
        head: Name that its classifier had.

    Raises:
        ValueError: In one line, where the weights are not there or do not fit.
    """
    if weights == "imagenet":
        try:
            state = get_model(name, weights="DEFAULT", progress=False).state_dict()
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"weights=imagenet: {name}'s could not be fetched: {' '.join(str(error).split())}"
            ) from None
        first, convolution = first_convolution(network)
        state[f"{first}.weight"] = fewer_channels(state[f"{first}.weight"], convolution.in_channels)
    else:
        state = read_state_dict(weights)
    fill(network, state, f"weights={weights}", head)


def read_state_dict(path: str) -> dict[str, Tensor]:
    """Read the state dict in a file; no code in it is ever run.

    Args:
        path: A file as ``torch.save`` writes it.

    Returns:
        Name -> tensor, on the CPU.

    Raises:
        ValueError: In one line, if there is no such file or it holds something else.
    """
    try:
        state = torch.load(Path(path), weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise ValueError(f"weights={path}: there is no such file") from None
    except Exception:  # on bytes that are something else the reader raises almost anything
        raise ValueError(f"weights={path}: no state dict as torch.save writes it (nothing else is read)") from None
    if not isinstance(state, Mapping) or not all(isinstance(x, Tensor) for x in state.values()):
        raise ValueError(f"weights={path}: holds no state dict, names with a tensor each")
    return dict(state)


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str, head: str) -> None:
    """Copy a state dict into a network, without the classifier, which is for somebody else's classes.

    Args:
        network: The network, without its classifier.
        state: Name -> tensor.
        source: What error messages call the state dict.
        head: Name that the classifier has in the state dict.

    Raises:
        ValueError: In one line, where names or shapes differ.
    """
    own = network.state_dict()
    counters = {name: x for name, x in own.items() if name.endswith("num_batches_tracked")}  # older files have none
    given = counters | {name: x for name, x in state.items() if not name.startswith((f"{head}.", *AUXILIARY))}
    missing, unknown = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or unknown:
        example = f"no {missing[0]}" if missing else f"{unknown[0]} is unknown"
        raise ValueError(
            f"{source}: of another network: {len(missing)} missing, {len(unknown)} unknown, such as {example}"
        )
    wrong = [name for name, x in own.items() if x.shape != given[name].shape]
    if wrong:
        there, here = (tuple(states[wrong[0]].shape) for states in (given, own))
        raise ValueError(
            f"{source}: {len(wrong)} shapes differ, such as {wrong[0]}: it has {there}, this network {here}"
        )
    network.load_state_dict(given)


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return the name of the layer that sees the image, and the layer."""
    return next((name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d))


def set_channels(network: nn.Module, channels: int) -> None:
    """Give a network's first convolution another number of input channels, freshly initialised, in place.

    Args:
        network: The network.
        channels: Number of input channels; if it is that already, nothing changes.
    """
    name, layer = first_convolution(network)
    if channels == layer.in_channels:
        return
    old: Any = layer  # torch types these sizes as tuples of any length
    new = nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, padding=old.padding, bias=old.bias is not None
    )
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, new)


def fewer_channels(weight: Tensor, channels: int) -> Tensor:
    """Change the number of input channels of a trained kernel, so that a grey image gives the same output.

    Args:
        weight: An RGB kernel (D, 3, k, k).
        channels: Number of input channels.

    Returns:
        (D, channels, k, k): the mean over colours, scaled by 3 / channels; the kernel itself if it has as many.
    """
    if channels == weight.shape[1]:
        return weight
    return weight.mean(1, keepdim=True).expand(-1, channels, -1, -1) * weight.shape[1] / channels
