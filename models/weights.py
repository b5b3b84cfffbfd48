"""Weights that somebody else has trained: ImageNet's, through torchvision's own loader, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model

AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # heads that GoogLeNet and Inception are trained with


def load(network: nn.Module, weights: str, name: str, head: str) -> None:
    """Fill a torchvision network called ``name`` whose classifier ``head`` is gone.

    ``weights`` is "imagenet", or the path of a state dict as torch saves it, under torchvision's names. Raises
    ValueError, in one line, where that cannot be had or does not fit.
    """
    if weights == "imagenet":
        try:
            state = get_model(name, weights="DEFAULT", progress=False).state_dict()
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"weights=imagenet: {name}'s could not be fetched: {' '.join(str(error).split())}"
            ) from None
        first = first_convolution(network)
        state[f"{first}.weight"] = fewer_channels(state[f"{first}.weight"], network.get_submodule(first).in_channels)  # type: ignore[arg-type]
    else:
        state = read(weights)
    fill(network, state, f"weights={weights}", head)


def read(path: str) -> dict[str, Tensor]:
    """The state dict in a file; no code in it is ever run."""
    try:
        state = torch.load(Path(path), weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise ValueError(f"weights={path}: there is no such file") from None
    except Exception:  # on bytes that are something else the reader raises almost anything
        raise ValueError(f"weights={path}: no state dict as torch.save writes it (nothing else is read)") from None
    if not isinstance(state, Mapping) or not all(isinstance(x, Tensor) for x in state.values()):
        raise ValueError(f"weights={path}: holds no state dict, names with a tensor each")
    return dict(state)


def fill(network: nn.Module, state: Mapping[str, Tensor], where: str, head: str) -> None:
    """Copy a state dict into a network; its layer ``head``, for somebody else's classes, is left out.

    Raises ValueError where names or shapes differ.
    """
    wanted = network.state_dict()
    counters = {name: x for name, x in wanted.items() if name.endswith("num_batches_tracked")}  # older files have none
    given = counters | {name: x for name, x in state.items() if not name.startswith((f"{head}.", *AUXILIARY))}
    missing, unknown = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or unknown:
        example = f"no {missing[0]}" if missing else f"{unknown[0]} is unknown"
        raise ValueError(
            f"{where}: of another network: {len(missing)} missing, {len(unknown)} unknown, such as {example}"
        )
    wrong = [name for name, x in wanted.items() if x.shape != given[name].shape]
    if wrong:
        found, expected = (tuple(states[wrong[0]].shape) for states in (given, wanted))
        raise ValueError(
            f"{where}: {len(wrong)} shapes differ, such as {wrong[0]}: it has {found}, this network {expected}"
        )
    network.load_state_dict(given)


def first_convolution(network: nn.Module) -> str:
    """The name of the layer that sees the image."""
    return next(name for name, module in network.named_modules() if isinstance(module, nn.Conv2d))


def set_channels(network: nn.Module, channels: int) -> None:
    """Give a network's first convolution another number of input channels, freshly initialised."""
    name = first_convolution(network)
    old: Any = network.get_submodule(name)
    if channels == old.in_channels:
        return
    new = nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, padding=old.padding, bias=old.bias is not None
    )
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, new)


def fewer_channels(weight: Tensor, channels: int) -> Tensor:
    """An RGB kernel (D, 3, k, k) -> (D, channels, k, k): the mean over colours, scaled so that grey gives the same."""
    if channels == weight.shape[1]:
        return weight
    return weight.mean(1, keepdim=True).expand(-1, channels, -1, -1) * weight.shape[1] / channels
