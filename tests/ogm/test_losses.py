"""Contrastive losses: equal to their definitions as loops, also over two ranks."""

from __future__ import annotations

import math
import multiprocessing
import socket
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ogm.context import Context
from ogm.losses import gather, info_nce, nt_xent
from ogm.strategies.ssl_unimodal import vicreg
from tests.helpers.engines import build, flat, train
from tests.helpers.methods import Q64, rows


def slow_info_nce(a: Tensor, b: Tensor, t: float, valid: list[bool]) -> list[float]:
    found = []
    for i in range(len(a)):
        both = 0.0
        for x, y in ((a, b), (b, a)):
            scores = [float(F.cosine_similarity(x[i], y[j], 0)) / t for j in range(len(y))]
            both += math.log(sum(math.exp(s) for j, s in enumerate(scores) if valid[j] or j == i)) - scores[i]
        found.append(both / 2)
    return found


def slow_nt_xent(first: Tensor, second: Tensor, t: float, valid: list[bool]) -> list[float]:
    views, n = torch.cat([first, second]), len(first)
    found = [0.0] * n
    for i in range(2 * n):
        pair = (i + n) % (2 * n)
        scores = [float(F.cosine_similarity(views[i], views[j], 0)) / t for j in range(2 * n)]
        others = [s for j, s in enumerate(scores) if j != i and (valid[j % n] or j == pair)]
        found[i % n] += (math.log(sum(map(math.exp, others))) - scores[pair]) / 2
    return found


@pytest.mark.parametrize("valid", [None, [True, False, True, True, False]], ids=["complete", "missing"])
@pytest.mark.parametrize(("fast", "slow"), [(info_nce, slow_info_nce), (nt_xent, slow_nt_xent)])
def test_contrastive_losses_are_their_loops(fast: Any, slow: Any, valid: list[bool] | None) -> None:
    a, b = rows(5), rows(5, seed=1)
    found = fast(a, b, 0.3, None if valid is None else torch.tensor(valid))
    expected = torch.tensor(slow(a, b, 0.3, valid or [True] * 5), dtype=torch.float64)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("loss", [info_nce, nt_xent])
def test_one_sample_has_no_negatives(loss: Any) -> None:
    a = rows(1).requires_grad_()
    value = loss(a, rows(1, seed=1), 0.1)
    value.sum().backward()
    assert abs(float(value.detach())) < 1e-12 and a.grad is not None and a.grad.abs().max() < 1e-12


SHARD = (3, 4)  # of seven rows, unlike on the two ranks


def _contrast(name: str, a: Tensor, b: Tensor, ctx: Context) -> Tensor:
    if name == "vicreg":
        return torch.stack(list(vicreg(a, b).values())).sum()
    return ctx.mean({"info_nce": info_nce, "nt_xent": nt_xent}[name](a, b, 0.3))


def _rank(rank: int, port: int, results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    mine = slice(0, SHARD[0]) if rank == 0 else slice(SHARD[0], None)
    found = {}
    for name in ("info_nce", "nt_xent", "vicreg"):
        a, b = (x[mine].clone().requires_grad_() for x in (rows(7), rows(7, seed=1)))
        ctx = Context(share=SHARD[rank] * 2 / 7)
        ctx.backward(_contrast(name, a, b, ctx))
        assert a.grad is not None and b.grad is not None
        found[name] = torch.stack([a.grad, b.grad]).div(2).numpy()  # as gradients are averaged over two ranks
    everything, start = gather(rows(7)[mine])
    found["gathered"] = (everything.numpy(), start)
    found["flags"] = gather(torch.tensor([True, False, True][: 2 + rank]))[0].tolist()
    for case in VARIANTS:
        found[str(case)] = _trained(*case).numpy()
    results.put((rank, found))
    dist.destroy_process_group()


VARIANTS: list[tuple[str, dict[str, Any], bool]] = [
    ("ssl_unimodal", {"objective": "vicreg"}, True),
    ("ssl_crossmodal", {"objective": "avid"}, True),
    ("kd_strong_to_weak", {"w_mta": 1.0, "w_hard": 0.5}, False),
    ("cml", {"variant": "miwae"}, True),
    ("opm_ogm", {"noise": True}, False),
]


def _trained(method: str, options: dict[str, Any], missing: bool) -> Tensor:
    return flat(train(build(method, options=options, missing=missing, size=15, **Q64), 2))


def test_two_ranks_contrast_as_one() -> None:
    """Gradients of rows as anchors *and* as the other rank's negatives, on shards of three and four."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    processes = [spawn.Process(target=_rank, args=(rank, port, results)) for rank in range(2)]
    for process in processes:
        process.start()
    ranks = dict(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    for name in ("info_nce", "nt_xent", "vicreg"):
        a, b = rows(7).requires_grad_(), rows(7, seed=1).requires_grad_()
        _contrast(name, a, b, Context()).backward()  # type: ignore[no-untyped-call]
        whole = torch.stack([a.grad, b.grad])  # type: ignore[list-item]
        parts = torch.cat([torch.from_numpy(ranks[rank][name]) for rank in range(2)], 1)
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)
        local = rows(7)[:3].requires_grad_()  # the control: negatives of one's own rank alone
        _contrast(name, local, rows(7, seed=1)[:3], Context(share=6 / 7)).backward()  # type: ignore[no-untyped-call]
        assert (local.grad - whole[0, :3]).abs().max() > 1e-4  # type: ignore[operator]
    for rank, start in ((0, 0), (1, 3)):
        assert ranks[rank]["gathered"][1] == start
        assert torch.equal(torch.from_numpy(ranks[rank]["gathered"][0]), rows(7))
        assert ranks[rank]["flags"] == [True, False, True, False, True]
    for case in VARIANTS:
        first, second = (torch.from_numpy(ranks[rank][str(case)]) for rank in range(2))
        assert torch.equal(first, second) and (first - _trained(*case)).abs().max() < 1e-10
