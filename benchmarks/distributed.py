"""Several processes on one run, as torch.distributed.run starts them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist


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
