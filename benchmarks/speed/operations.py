"""How many operations a training step asks of torch: on a GPU each is a launch, and small ones are bound by that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from ogm.engine import Engine
from ogm.types import Batch

ALLOCATION = "aten::empty"  # and empty_like and so on: memory without a value


class CountedOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context that counts what torch dispatches, forward, backward and in the optimizer.

    Views and allocations are left out, as they compute nothing. An operation on a list of tensors counts once.

    Attributes:
        counts: Name of an operation -> how often it was asked for.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count one operation, and do it."""
        name = func.name()  # type: ignore[no-untyped-call]
        if not func.is_view and not name.startswith(ALLOCATION):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def count_operations(engine: Engine, data: Batch) -> int:
    """Count the operations of a training step; not of the first, in which the optimizer makes its momentum.

    Args:
        engine: What trains; it has taken a step.
        data: The batch.

    Returns:
        Number of operations. It depends on the method and the network, not on the sizes of tensors.
    """
    engine.logs = {}
    with CountedOperations() as counted:
        engine.strategy.step(data, engine)
    return sum(counted.counts.values())
