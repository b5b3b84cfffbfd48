"""Weights that somebody else has trained: ImageNet's, through torchvision's own loader, or a file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

HEADS = ("fc.", "classifier.", "head.", "heads.", "AuxLogits.", "aux1.", "aux2.")  # of classes that are not ours


def load(network: nn.Module, weights: str, name: str) -> None:
    """Fill a torchvision network called ``name``: ``weights`` is "imagenet", or the path of a state dict as torch saves
    it, under torchvision's names. ValueError, in one line, where that cannot be had or does not fit."""
    if weights == "imagenet":
        try:
            state = dict(get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True))
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"weights=imagenet: {name}'s could not be fetched: {' '.join(str(error).split())}"
            ) from None
        first = first_convolution(network)
        state[f"{first}.weight"] = fewer_channels(state[f"{first}.weight"], network.get_submodule(first).in_channels)  # type: ignore[arg-type]
    else:
        state = read(weights)
    fill(network, state, f"weights={weights}")


def read(path: str) -> dict[str, Tensor]:
    """The state dict in a file; no code in it is ever run."""
    try:
        state = torch.load(Path(path), weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        said = str(error).strip().splitlines()
        raise ValueError(
            f"weights={path}: not a file of weights: {said[0] if said else type(error).__name__}"
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(x, Tensor) for x in state.values()):
        raise ValueError(f"weights={path}: holds no state dict, names with a tensor each")
    return dict(state)


def fill(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copy a state dict into a network; heads, for classes of another data set, are left out. ValueError: no match."""
    wanted = {name: x for name, x in network.state_dict().items() if not name.startswith(HEADS)}
    given = {name: x for name, x in state.items() if not name.startswith(HEADS)}
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
    network.load_state_dict(given, strict=False)


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
