"""Torch, imported when something of it is first used.

Importing torch takes seconds, and data sets are also read where nothing is computed: to list them, to tell what is
known of one, to see whether a run's data are those of its record. So modules of ``datasets`` take ``torch`` from here
and use it inside of functions and in annotations, which Python does not evaluate (``from __future__ import
annotations``). For the same reason they say ``ogm.Batch``: ``ogm`` imports a name when it is first used.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["torch"]


class _Lazy(ModuleType):
    """A module by its name, imported when an attribute of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


if TYPE_CHECKING:
    import torch as torch
else:
    torch = _Lazy("torch")
