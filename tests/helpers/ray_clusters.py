"""Ray clusters on this machine, for tests. Each node has a raylet of its own, whose processes are its workers."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.executors.base import Executor
from benchmarks.runner.environment import RunEnvironment
from tests.helpers.commands import ROOT

STARTS = 3  # how often a node is tried to be started
NODE = {"num_cpus": 2, "object_store_memory": 200 * 2**20, "include_dashboard": False}


def start_cluster(nodes: int) -> tuple[Any, list[Any]]:
    """A cluster whose first node has no processor for runs, and the further nodes; it ends with this process."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    folder = Path(tempfile.mkdtemp(prefix="ogm-ray-"))
    head = {**NODE, "num_cpus": 0 if nodes else 2, "temp_dir": str(folder)}
    cluster = Cluster()
    _try(lambda: cluster.add_node(**head))

    def stop() -> None:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    return cluster, [add_node(cluster) for _ in range(nodes)]


def add_node(cluster: Any) -> Any:
    """A further node, with room for one run."""
    return _try(lambda: cluster.add_node(**{**NODE, "num_cpus": 1}))


def _try(start: Callable[[], Any]) -> Any:
    """Start a node. Ray waits for it for 30 s, which a busy machine can exceed: it is tried again."""
    for _ in range(STARTS - 1):
        with contextlib.suppress(Exception):  # Ray raises no other class
            return start()
    return start()


@functools.cache
def shared_cluster() -> str:
    """The address of a cluster of one node, which all tests of this process share."""
    return str(start_cluster(0)[0].address)


def ray_executor(environment: RunEnvironment) -> Executor:
    """An executor on the shared cluster; the test is skipped where Ray is not installed."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from benchmarks.executors.ray_cluster import RayExecutor

    return RayExecutor(environment, 2, needs={"CPU": 1}, address=shared_cluster())
