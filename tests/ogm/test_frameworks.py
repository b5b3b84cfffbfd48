"""The plug-in in Accelerate's and Lightning's loops: with the real ones where they are installed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import ogm
from ogm import Output
from tests.helpers.own_loop import Net, same


def samples() -> TensorDataset:
    g = torch.Generator().manual_seed(3)
    return TensorDataset(
        torch.randn(24, 3, generator=g), torch.randn(24, 5, generator=g), torch.randint(3, (24,), generator=g)
    )


def network() -> Net:
    """With a method that scales updates."""
    torch.manual_seed(0)
    net = Net()
    net.plan = ogm.create("ogm", alpha=0.8, target="update").attach(net.encoders)
    return net


def by_hand(net: Net, size: int = 8) -> Net:
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for audio, visual, label in DataLoader(samples(), size):
        optimizer.zero_grad()
        net.plan.backward(net(audio, visual), label, optimizer=optimizer)
        optimizer.step()
    return net


# ---- Accelerate
@pytest.mark.parametrize("wrapped", [True, False], ids=["the prepared optimizer", "the bare one"])
def test_accelerate(wrapped: bool) -> None:
    accelerate = pytest.importorskip("accelerate", reason="Accelerate is not installed")
    accelerator = accelerate.Accelerator(cpu=True)
    net = network()
    bare = torch.optim.Adam(net.parameters(), lr=0.01)
    loader = DataLoader(samples(), 8)
    prepared, optimizer, loader = accelerator.prepare(net, bare, loader)
    for audio, visual, label in loader:
        optimizer.zero_grad()
        net.plan.backward(prepared(audio, visual), label, optimizer=optimizer if wrapped else bare)
        optimizer.step()
    assert same(net, by_hand(network()))


def test_accelerate_accumulates() -> None:
    accelerate = pytest.importorskip("accelerate", reason="Accelerate is not installed")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    net = network()
    loader = DataLoader(samples(), 4)
    prepared, optimizer, loader = accelerator.prepare(net, torch.optim.Adam(net.parameters(), lr=0.01), loader)
    for audio, visual, label in loader:
        with accelerator.accumulate(prepared):
            net.plan.backward(prepared(audio, visual), label, optimizer=optimizer, accumulate_to=8)
            optimizer.step()  # Accelerate's own does nothing until the last micro-batch
            optimizer.zero_grad()
    for p, q in zip(net.parameters(), by_hand(network()).parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_accelerate_saves_and_restores(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason="Accelerate is not installed")
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    accelerator = accelerate.Accelerator(cpu=True)
    net = network()
    prepared, optimizer = accelerator.prepare(net, torch.optim.Adam(net.parameters(), lr=0.01))
    audio, visual, label = samples()[:8]
    net.plan.backward(prepared(audio, visual), label, optimizer=optimizer)
    optimizer.step()
    accelerator.save_state(tmp_path)
    steps, weights = net.plan.state_dict()["_extra_state"], copy.deepcopy(net.state_dict())
    optimizer.zero_grad()
    net.plan.backward(prepared(audio, visual), label, optimizer=optimizer)
    optimizer.step()
    accelerator.load_state(tmp_path)
    assert net.plan.state_dict()["_extra_state"] == steps == 1
    assert all(torch.equal(x, weights[name]) for name, x in net.state_dict().items())


# ---- Lightning
def module(lightning: Any, net: Net, micro_batches: int = 1) -> Any:
    class Module(lightning.LightningModule):  # type: ignore[misc]
        """The strategy is a part of it: it moves and is saved with the network."""

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False  # what calls strategy.backward itself
            self.net = net

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.01)

        def training_step(self, batch: tuple[Tensor, Tensor, Tensor], number: int) -> None:
            audio, visual, label = batch
            optimizer = self.optimizers()
            whole = len(label) * micro_batches
            output: Output = self.net(audio, visual)
            loss = self.net.plan.backward(
                output, label, epoch=self.current_epoch, optimizer=optimizer, accumulate_to=whole
            )
            if (number + 1) % micro_batches == 0:
                optimizer.step()
                optimizer.zero_grad()
            self.log("loss", loss)
            self.log_dict(self.net.plan.logs)

    return Module()


def trainer(lightning: Any, folder: Path, **how: Any) -> Any:
    return lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **how,
    )


@pytest.mark.filterwarnings("ignore")  # Lightning warns of few workers, of short epochs, of torch's own changes
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_lightning(micro_batches: int, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning", reason="Lightning is not installed")
    net = network()
    run = trainer(lightning, tmp_path)
    one = module(lightning, net, micro_batches)
    run.fit(one, DataLoader(samples(), 8 // micro_batches))
    for p, q in zip(net.parameters(), by_hand(network()).parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0 if micro_batches == 1 else 1e-5, atol=0 if micro_batches == 1 else 1e-6)
    assert {"coefficient/audio", "discrepancy_ratio/visual"} <= run.logged_metrics.keys()
    run.save_checkpoint(tmp_path / "whole.ckpt")
    state = torch.load(tmp_path / "whole.ckpt", weights_only=False)["state_dict"]
    other = module(lightning, network())
    other.load_state_dict(state, strict=True)
    assert other.net.plan.state_dict()["_extra_state"] == 3
    plain = {name: x for name, x in state.items() if ".plan." not in name}  # made before there was a strategy
    module(lightning, network()).load_state_dict(plain, strict=True)
