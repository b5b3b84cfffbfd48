"""What training costs whatever the machine: samples that went through an encoder, forward and backward."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.fusion import Fusion
from models.model import MultimodalModel
from ogm.context import world_size
from ogm.parts.heads import UnimodalModel


class PassCounter:
    """Counts encoder passes, one for each sample and modality, of a model and of what it is trained with.

    A backward pass counts where the gradient really enters the encoder: not for a frozen one, twice for two losses
    that are differentiated one after the other. Copies of the models count, too.

    Args:
        modules: The model that is trained, and trained modules that it learns from.

    Attributes:
        forwards: Samples encoded within ``counting``, on all ranks together.
        backwards: Samples whose gradients went through an encoder.
    """

    def __init__(self, modules: Iterable[object]) -> None:
        self.forwards = self.backwards = 0
        self._counting = False
        count = self._counter()
        for module in modules:
            for encoder in _encoders(module):
                encoder.register_forward_hook(lambda _, __, feature: count(feature))
            if isinstance(module, MultimodalModel) and type(module.fusion).encode is not Fusion.encode:
                module.encode_hooks.append(lambda features: [count(feature) for feature in features.values()])

    def _counter(self) -> Callable[[Tensor], None]:
        """A function, which a copied model shares: a method would be copied with its object."""
        last: list[weakref.ref[Tensor]] = []  # an encoder's output that a fusion hands on is not counted again

        def backward(samples: int) -> Callable[[Any], None]:
            def hook(_: Any) -> None:
                self.backwards += samples if self._counting else 0

            return hook

        def count(feature: Tensor) -> None:
            if not self._counting or any(seen() is feature for seen in last):
                return
            last.append(weakref.ref(feature))
            del last[:-8]
            self.forwards += len(feature)
            if feature.grad_fn is not None:
                feature.grad_fn.register_prehook(backward(len(feature)))

        return count

    @contextmanager
    def counting(self, device: torch.device) -> Iterator[None]:
        """Count what happens within this context.

        Args:
            device: Where numbers of several ranks are added.
        """
        before = self.forwards, self.backwards
        self._counting = True
        try:
            yield
        finally:
            self._counting = False
        if world_size() > 1:
            own = torch.tensor([self.forwards - before[0], self.backwards - before[1]], device=device)
            dist.all_reduce(own)
            self.forwards, self.backwards = before[0] + int(own[0]), before[1] + int(own[1])


def _encoders(module: object) -> list[nn.Module]:
    """The encoders of a multimodal model, or of a unimodal one."""
    if isinstance(module, MultimodalModel):
        return list(module.encoders.values())
    return [module.encoder] if isinstance(module, UnimodalModel) else []
