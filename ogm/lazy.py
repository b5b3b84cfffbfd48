"""Torch, imported when something of it is first used, for modules that are also read where nothing is computed.

Importing torch takes seconds. A module that needs it inside of functions alone, and ``Tensor`` in annotations alone,
imports it from here: then lists of names, the facts of a dataset and the numbers of recorded runs can be read without.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["functional", "torch"]


class _Lazy(ModuleType):
    """A module by its name, imported when an attribute of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


if TYPE_CHECKING:
    import torch as torch
    from torch.nn import functional as functional
else:
    torch = _Lazy("torch")
    functional = _Lazy("torch.nn.functional")
