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


# ---- Lightning, automatic optimisation
def automatic(lightning: Any, net: Net, optimizer: type[torch.optim.Optimizer] = torch.optim.Adam, **more: Any) -> Any:
    from ogm.integrations.lightning import BalancedMixin

    class Automatic(BalancedMixin, lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer(self.parameters(), lr=0.01)

        def training_step(self, batch: tuple[Tensor, Tensor, Tensor], number: int) -> Any:
            audio, visual, label = batch
            return self.balanced_loss(self.net.plan, self.net(audio, visual), label, epoch=self.current_epoch)

        def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], number: int) -> None:
            audio, visual, label = batch
            self.log("val_loss", self.balanced_loss(self.net.plan, self.net(audio, visual), label))

    for name, function in more.items():
        setattr(Automatic, name, function)
    return Automatic()


def by_steps(net: Net, steps: list[int], clip: float | None = None, optimizer: type = torch.optim.Adam) -> Net:
    """The plain loop, with so many samples in each step."""
    made, start = optimizer(net.parameters(), lr=0.01), 0
    for number in steps:
        audio, visual, label = samples()[start : start + number]
        start += number
        made.zero_grad()
        net.plan.backward(net(audio, visual), label, optimizer=made)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
        made.step()
    return net


def assert_close(net: Net, other: Net, tolerance: float = 1e-6) -> None:
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=tolerance)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("size", "batches", "limit", "steps"),
    [
        (8, 1, 1.0, [8, 8, 8]),
        (10, 1, 1.0, [10, 10, 4]),
        (4, 2, 1.0, [8, 8, 8]),
        (7, 2, 1.0, [14, 10]),  # 7 and 7, 7 and the last 3
        (5, 2, 1.0, [10, 10, 4]),  # five batches: the last is a step of its own
        (4, 2, 3, [8, 4]),  # of three batches
    ],
)
def test_lightning_does_what_the_plain_loop_does(
    size: int, batches: int, limit: float, steps: list[int], tmp_path: Path
) -> None:
    lightning = pytest.importorskip("lightning", reason="Lightning is not installed")
    net = network()
    how = {"accumulate_grad_batches": batches, "limit_train_batches": limit, "gradient_clip_val": 0.1}
    run = trainer(lightning, tmp_path, enable_checkpointing=False, **how)
    run.fit(automatic(lightning, net), DataLoader(samples(), size), DataLoader(samples(), 24))
    assert_close(net, by_steps(network(), steps, clip=0.1))
    assert run.global_step == len(steps) == int(net.plan.state_dict()["_extra_state"])
    assert run.logged_metrics["val_loss"] > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("batches", [1, 2])
def test_lightning_in_mixed_precision(precision: str, batches: int, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning", reason="Lightning is not installed")
    from lightning.pytorch.plugins import MixedPrecision

    scaler = torch.amp.GradScaler("cpu") if precision == "16-mixed" else None
    plugin = MixedPrecision(precision, "cpu", scaler)
    net = network()
    how = {"accumulate_grad_batches": batches, "gradient_clip_val": 1.0, "plugins": [plugin]}
    run = trainer(lightning, tmp_path, enable_checkpointing=False, **how)
    module = automatic(lightning, net, torch.optim.SGD)
    run.fit(module, DataLoader(samples(), 8 // batches))
    plain = by_steps(network(), [8, 8, 8], clip=1.0, optimizer=torch.optim.SGD)
    moved = max(
        float((p - q).detach().abs().max()) for p, q in zip(net.parameters(), network().parameters(), strict=True)
    )
    assert moved > 1e-3
    assert_close(net, plain, moved / 20)


@pytest.mark.filterwarnings("ignore")
def test_lightning_skips_a_step_that_overflows(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning", reason="Lightning is not installed")
    from lightning.pytorch.plugins import MixedPrecision

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    net = network()
    run = trainer(lightning, tmp_path, enable_checkpointing=False, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    run.fit(automatic(lightning, net), DataLoader(samples(), 8))
    assert same(net, network())
    assert scaler.get_scale() == 2.0**124


def test_a_gradient_is_unscaled_meanwhile_without_losing_a_bit() -> None:
    from ogm.integrations.lightning import UnscaledMeanwhile

    scaler = torch.amp.GradScaler("cpu")
    parameter = torch.nn.Parameter(torch.randn(50))
    optimizer = torch.optim.SGD([parameter], lr=1)
    scaler.scale((parameter**3).sum()).backward()
    before = parameter.grad.clone()
    for step in (1, 2):  # a second one unscales nothing twice
        meanwhile = UnscaledMeanwhile(scaler)
        meanwhile.scale_again()
        assert torch.equal(parameter.grad, before), step
        meanwhile.unscale_(optimizer)
        torch.testing.assert_close(parameter.grad, 3 * parameter.detach() ** 2)
        meanwhile.scale_again()
        assert torch.equal(parameter.grad, before)


def twice(self: Any, batch: Any, number: int) -> Tensor:
    audio, visual, label = batch
    output = self.net(audio, visual)
    return self.balanced_loss(self.net.plan, output, label) + self.balanced_loss(self.net.plan, output, label)


def with_a_term(self: Any, batch: Any, number: int) -> Tensor:
    audio, visual, label = batch
    loss: Tensor = self.balanced_loss(self.net.plan, self.net(audio, visual), label)
    return loss + self.net.head.weight.square().sum()


def without(self: Any, batch: Any, number: int) -> Tensor:
    audio, visual, label = batch
    return torch.nn.functional.cross_entropy(self.net(audio, visual).logits, label)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("method", "step", "loader", "how", "message"),
    [
        ("ogm", twice, None, {}, "ogm: balanced_loss was called twice"),
        ("ogm", with_a_term, None, {}, "add nothing to it that has a gradient"),
        ("ogm", without, None, {}, "training_step must return self.balanced_loss"),
        (
            "tcmax",
            None,
            None,
            {"accumulate_grad_batches": 2},
            "tcmax needs the whole batch .*: accumulate_grad_batches=1",
        ),
        ("ogm", None, "batch_sampler", {"accumulate_grad_batches": 2}, "must be known: train with one DataLoader"),
        ("mla", None, None, {}, "mla does more than a backward pass can: train with an Engine"),
    ],
)
def test_what_lightning_cannot_do_is_said_in_a_line(
    method: str, step: Any, loader: str | None, how: dict[str, Any], message: str, tmp_path: Path
) -> None:
    lightning = pytest.importorskip("lightning", reason="Lightning is not installed")
    net = network()
    net.plan = ogm.create(method).attach(net.encoders, dims={"audio": 4, "visual": 4}, num_classes=3, fusion=net.head)
    module = automatic(lightning, net, **({} if step is None else {"training_step": step}))
    data = DataLoader(samples(), 8)
    if loader is not None:
        data = DataLoader(samples(), batch_sampler=data.batch_sampler)
    run = trainer(lightning, tmp_path, enable_checkpointing=False, **how)
    with pytest.raises(ValueError, match=message) as error:
        run.fit(module, data)
    assert "\n" not in str(error.value)


def test_the_mixin_stands_first() -> None:
    from ogm.integrations.lightning import BalancedMixin

    class Base:
        def backward(self, loss: Tensor) -> None: ...

    class Right(BalancedMixin, Base): ...

    assert Right.backward is BalancedMixin.backward
    with pytest.raises(TypeError, match="class Wrong: BalancedMixin must stand before LightningModule"):

        class Wrong(Base, BalancedMixin): ...


# ---- the Trainer of transformers
@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> Any:
    library = pytest.importorskip("transformers", reason="transformers is not installed")
    # In the repository's folder it would take ours for the package datasets; the example runs in a folder of its own.
    monkeypatch.setattr("transformers.trainer.is_datasets_available", lambda: False)
    return library


def arguments(transformers: Any, folder: Path, **how: Any) -> Any:
    how = {"num_train_epochs": 1, "train_sampling_strategy": "sequential", "disable_tqdm": True, **how}
    return transformers.TrainingArguments(str(folder), save_strategy="no", report_to="none", use_cpu=True, **how)


def hugging_face(net: Net, args: Any, **how: Any) -> Any:
    from ogm.integrations.transformers import BalancedTrainer

    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    rows = [{"audio": a, "visual": v, "labels": y} for a, v, y in samples()]
    return BalancedTrainer(
        net.plan, net, args, train_dataset=rows, eval_dataset=rows, optimizers=(optimizer, constant), **how
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("size", "batches", "steps"),
    [(8, 1, [8, 8, 8]), (10, 1, [10, 10, 4]), (4, 2, [8, 8, 8]), (7, 2, [14, 10]), (5, 2, [10, 10, 4])],
)
def test_transformers_does_what_the_plain_loop_does(
    transformers: Any, size: int, batches: int, steps: list[int], tmp_path: Path
) -> None:
    net = network()
    how = {"per_device_train_batch_size": size, "gradient_accumulation_steps": batches, "max_grad_norm": 0.1}
    run = hugging_face(net, arguments(transformers, tmp_path, **how))
    run.train()
    assert run.state.global_step == len(steps) == int(net.plan.state_dict()["_extra_state"])
    assert_close(net, by_steps(network(), steps, clip=0.1))


@pytest.mark.filterwarnings("ignore")
def test_transformers_in_bfloat16(transformers: Any, tmp_path: Path) -> None:
    net = network()
    run = hugging_face(
        net, arguments(transformers, tmp_path, per_device_train_batch_size=8, max_grad_norm=0, bf16=True)
    )
    run.train()
    assert all(p.isfinite().all() for p in net.parameters()) and not same(net, network())


@pytest.mark.filterwarnings("ignore")
def test_transformers_saves_the_strategy_and_goes_on_with_it(transformers: Any, tmp_path: Path) -> None:
    how = {"per_device_train_batch_size": 8, "max_grad_norm": 0}
    args = arguments(transformers, tmp_path, **how)
    args.save_strategy, args.save_steps = "steps", 1
    net = network()
    run = hugging_face(net, args)
    run.train()
    resumed = network()
    again = hugging_face(resumed, args)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert int(resumed.plan.state_dict()["_extra_state"]) == 3
    assert same(net, resumed)


@pytest.mark.filterwarnings("ignore")
def test_transformers_evaluates_what_the_strategy_predicts(transformers: Any, tmp_path: Path) -> None:
    net = network()
    run = hugging_face(
        net,
        arguments(transformers, tmp_path, per_device_eval_batch_size=10),
        compute_metrics=lambda p: {"accuracy": float((p[0].argmax(1) == p[1]).mean())},
    )
    numbers = run.evaluate()
    own = ogm.evaluate(net, {"test": DataLoader(samples(), 24)})["test"]
    assert numbers["eval_accuracy"] == pytest.approx(own["accuracy"])
    audio, visual, label = samples()[:]
    loss = torch.nn.functional.cross_entropy(net(audio, visual).logits, label)
    assert numbers["eval_loss"] == pytest.approx(float(loss), rel=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("method", "how", "message"),
    [
        ("tcmax", {"gradient_accumulation_steps": 2}, "tcmax needs the whole batch .*: gradient_accumulation_steps=1"),
        ("modality_dropout", {}, "modality_dropout edits features before they are fused"),
        ("mla", {}, "mla does more than a backward pass can: train with an Engine"),
        ("ogm", {"label_smoothing_factor": 0.1}, "BalancedTrainer cannot do label_smoothing_factor: set strategy"),
    ],
)
def test_what_transformers_cannot_do_is_said_in_a_line(
    transformers: Any, method: str, how: dict[str, Any], message: str, tmp_path: Path
) -> None:
    net = network()
    net.plan = ogm.create(method).attach(net.encoders, dims={"audio": 4, "visual": 4}, num_classes=3, fusion=net.head)
    with pytest.raises(ValueError, match=message) as error:
        hugging_face(net, arguments(transformers, tmp_path, **how))
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore")
def test_samples_without_labels_are_refused_in_a_line(transformers: Any, tmp_path: Path) -> None:
    run = hugging_face(network(), arguments(transformers, tmp_path))
    run.train_dataset = [{"audio": a, "visual": v, "target": y} for a, v, y in samples()]
    with pytest.raises(ValueError, match=r"^ogm: a sample is a dict with 'labels'"):
        run.train()
