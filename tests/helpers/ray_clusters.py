"""Ray clusters on this machine, for tests. Each node has a raylet of its own, whose processes are its workers."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.executors.base import Executor
from benchmarks.runner.environment import RunEnvironment
from tests.helpers.commands import ROOT

NODE = {"num_cpus": 2, "object_store_memory": 200 * 2**20, "include_dashboard": False}


def start_cluster(nodes: int) -> tuple[Any, list[Any]]:
    """A cluster whose first node has no processor for runs, and the further nodes; it ends with this process."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    folder = Path(tempfile.mkdtemp(prefix="ogm-ray-"))
    head = {**NODE, "num_cpus": 0 if nodes else 2, "_temp_dir": str(folder)}
    cluster = Cluster(initialize_head=True, head_node_args=head)

    def stop() -> None:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    return cluster, [cluster.add_node(**{**NODE, "num_cpus": 1}) for _ in range(nodes)]


@functools.cache
def shared_cluster() -> str:
    """The address of a cluster of one node, which all tests of this process share."""
    return str(start_cluster(0)[0].address)


def ray_executor(environment: RunEnvironment) -> Executor:
    """An executor on the shared cluster; the test is skipped where Ray is not installed."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from benchmarks.executors.ray_cluster import RayExecutor

    return RayExecutor(environment, 2, needs={"CPU": 1}, address=shared_cluster())
