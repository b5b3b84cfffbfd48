"""Several processes on one run, as torch.distributed.run starts them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
import torch.distributed as dist

from ogm.context import world_size

T = TypeVar("T")


@contextlib.contextmanager
def ranks(device: str) -> Iterator[int]:
    """Connect to the other processes of a run for the length of a context.

    Args:
        device: What ``--device`` says: GPUs talk by nccl, CPUs by gloo.

    Yields:
        This process's rank; 0 where it is alone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield 0
        return
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


def is_first_rank() -> bool:
    """Whether this process is alone, or the first of several: the one that writes files."""
    return world_size() == 1 or dist.get_rank() == 0


def by_first_rank(compute: Callable[[], T]) -> T:
    """Call a function on the first rank alone, and share its result.

    What is read from disk may change between one rank's look and the next; so only one looks.

    Args:
        compute: Called on the first rank.

    Returns:
        Its result, on every rank. An error that it raises is raised on all of them.
    """
    if world_size() == 1:
        return compute()
    outcome: list[tuple[T | None, Exception | None]] = [(None, None)]
    if is_first_rank():
        try:
            outcome = [(compute(), None)]
        except Exception as error:
            outcome = [(None, error)]
    dist.broadcast_object_list(outcome, 0)
    value, failure = outcome[0]
    if failure is not None:
        raise failure
    return value  # type: ignore[return-value]
