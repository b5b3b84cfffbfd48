"""Two real processes train what one trains, for every strategy: to 1e-10, with replicas alike to the bit."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from ogm.context import Context
from ogm.engine import Engine
from ogm.types import Batch, Output
from tests.helpers.commands import FORKSERVER, command, run_process
from tests.helpers.engines import CLASSES_OF, TRAINED, build, flat, refusal, train

SIZE = 15  # odd: shards of 8 and 7, a last batch too
# With missing modalities, which is the harder case; without, and after another fusion, a few.
CASES = [
    *((method, "concat" if refusal(method, "film") else "film", True) for method in TRAINED),
    *((method, "concat", False) for method in ("vanilla", "ogm_ge", "mmpareto", "ssl_crossmodal", "pmr", "gblend")),
]
MORE = [case for method in TRAINED if (case := (method, "concat", False)) not in CASES]

OWN_LOOP = [m for m in TRAINED if not CLASSES_OF[m].needs_engine]


class Whole(torch.nn.Module):
    """Somebody's network: what DistributedDataParallel wraps. The strategy's own parameters are not in it."""

    def __init__(self, model: Any, plan: Any) -> None:
        super().__init__()
        self.model, self.guest = model, (plan,)

    def forward(self, batch: Batch) -> Output:
        features = self.guest[0].transform(self.model.encode(batch.inputs), batch, epochs=4)
        return self.model.fuse(features)  # type: ignore[no-any-return]


def own_loop(method: str) -> torch.Tensor:
    """Three steps of a loop of one's own, with torch's wrapper where there are several processes."""
    engine = build(method, dtype=torch.float64)
    net, plan, optimizer = Whole(engine.model, engine.strategy), engine.strategy, engine.optimizer
    assert optimizer is not None
    if method == "mmcosine":  # no loss reaches the head's bias, and torch's wrapper refuses what no loss reaches
        engine.model.fusion.head.bias.requires_grad_(False)
    if method == "iprm":  # nor the fusion, which stands by
        engine.model.fusion.requires_grad_(False)
    if dist.is_initialized():
        net = torch.nn.parallel.DistributedDataParallel(net)  # type: ignore[assignment]
    for batch in engine.loaders["train"].epoch(0)[:3]:  # type: ignore[index]
        optimizer.zero_grad()
        plan.backward(net(batch), batch, epochs=4, optimizer=optimizer)
        optimizer.step()
    return flat(engine)


def one(method: str, fusion: str, missing: bool, **engine: Any) -> Engine:
    return train(build(method, fusion, missing=missing, size=SIZE, dtype=torch.float64, **engine), 2)


def trained(cases: list[tuple[str, str, bool]]) -> dict[Any, Any]:
    engines = {case: one(*case) for case in cases}
    return {case: (flat(engine).numpy(), engine.curves) for case, engine in engines.items()}


def more() -> dict[Any, Any]:
    return trained(MORE)


def contract() -> dict[Any, Any]:
    found = trained(CASES)
    found["micro"] = flat(one("vanilla", "concat", False, micro_batch=1)).numpy()
    try:
        train(build(size=1))
    except ValueError as error:
        found["a sample for two"] = str(error)
    Context.total = lambda self, x: x.detach().double()  # type: ignore[method-assign]  # each rank for itself
    return found | {"local scores": flat(one("ogm", "concat", False)).numpy()}


def own_loops() -> dict[Any, Any]:
    return {method: own_loop(method).numpy() for method in OWN_LOOP}


def _rank(rank: int, port: int, work: Callable[[], dict[Any, Any]], results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    results.put((rank, work()))
    dist.destroy_process_group()


def two_processes(work: Callable[[], dict[Any, Any]]) -> list[dict[Any, Any]]:
    """What each rank has found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = FORKSERVER.Queue()
    processes = [FORKSERVER.Process(target=_rank, args=(rank, port, work, results)) for rank in range(2)]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=240) for _ in processes)
    for process in processes:
        process.join()
    return [found[0], found[1]]


@pytest.fixture(scope="module")
def ranks() -> list[dict[Any, Any]]:
    return two_processes(contract)


@pytest.fixture(scope="module")
def more_ranks() -> list[dict[Any, Any]]:
    return two_processes(more)


@pytest.fixture(scope="module")
def loops() -> list[dict[Any, Any]]:
    return two_processes(own_loops)


def compare_with_one_process(case: tuple[str, str, bool], ranks: list[dict[Any, Any]]) -> None:
    (first, curves), (second, others) = ((torch.from_numpy(found[case][0]), found[case][1]) for found in ranks)
    alone = one(*case)
    assert torch.equal(first, second) and curves == others
    assert (first - flat(alone)).abs().max() < 1e-10
    assert curves.keys() == alone.curves.keys()
    for name, curve in alone.curves.items():
        assert curves[name] == pytest.approx(curve, abs=1e-9), name


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_are_one(case: tuple[str, str, bool], ranks: list[dict[Any, Any]]) -> None:
    compare_with_one_process(case, ranks)


@pytest.mark.long
@pytest.mark.parametrize("case", MORE, ids=str)
def test_two_processes_are_one_in_more_cases(case: tuple[str, str, bool], more_ranks: list[dict[Any, Any]]) -> None:
    compare_with_one_process(case, more_ranks)


def test_no_micro_batch_is_without_a_sample(ranks: list[dict[Any, Any]]) -> None:
    """Shards of 8 and 7 samples, in micro-batches of one: neither rank may get an eighth of seven."""
    alone = flat(one("vanilla", "concat", False))
    for found in ranks:
        assert (torch.from_numpy(found["micro"]) - alone).abs().max() < 1e-10


def test_more_ranks_than_samples_in_a_batch_are_refused(ranks: list[dict[Any, Any]]) -> None:
    assert all("cannot be shared by 2 processes" in found["a sample for two"] for found in ranks)


@pytest.mark.long
def test_the_command_refuses_more_ranks_than_samples_in_a_batch_in_a_line(tmp_path: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    words = command("run", "epochs=1", folder=tmp_path, more=torchrun)
    words[words.index("batch_size=32")] = "batch_size=1"
    said = run_process(words, OMP_NUM_THREADS="1")
    (line,) = [line for line in said.stderr.splitlines() if line.startswith("error:")]
    assert said.returncode and "batch_size=1" in line and "2 processes" in line
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("method", OWN_LOOP)
def test_two_processes_in_somebody_elses_loop_are_one(method: str, loops: list[dict[Any, Any]]) -> None:
    first, second = (torch.from_numpy(found[method]) for found in loops)
    assert torch.equal(first, second)
    assert (first - own_loop(method)).abs().max() < 1e-10


def test_scores_of_one_rank_alone_would_not_do(ranks: list[dict[Any, Any]]) -> None:
    """The control: with local scores, as published code has them, the replicas drift apart."""
    first, second = (torch.from_numpy(found["local scores"]) for found in ranks)
    assert (first - second).abs().max() > 1e-4
