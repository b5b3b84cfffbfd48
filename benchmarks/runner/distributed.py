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
    """This process's rank, with the others reachable meanwhile; 0 where it is alone."""
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
    return world_size() == 1 or dist.get_rank() == 0


def by_first_rank(find: Callable[[], T]) -> T:
    """What the first rank finds, on every rank: what is read from disk may change between one rank's look and the next.

    An error that it meets is raised on all.
    """
    if world_size() == 1:
        return find()
    found: list[tuple[T | None, Exception | None]] = [(None, None)]
    if is_first_rank():
        try:
            found = [(find(), None)]
        except Exception as error:
            found = [(None, error)]
    dist.broadcast_object_list(found, 0)
    value, failure = found[0]
    if failure is not None:
        raise failure
    return value  # type: ignore[return-value]
