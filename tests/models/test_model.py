"""The model as a whole: an encoder for each modality, the layout of its kernels, compilation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch._inductor.config

from benchmarks.config.run_config import configure
from benchmarks.runner.build import build_model
from benchmarks.runner.experiment import resolve
from datasets.registry import load
from models.encoders.cnn import CNN
from models.encoders.mlp import MLP
from models.fusions.concat import Concat
from models.model import MultimodalModel, channels_last, compile_encoders
from ogm.types import Batch
from tests.helpers.engines import build, train


def test_another_encoder_for_each_modality() -> None:
    config = configure(
        {
            "dataset_args.num_train": 64,
            "fusion": "mmtm",
            "encoders": {"audio": "conformer", "visual": "cnn"},
            "encoder_args.audio": {"width": 16, "layers": 2, "pool": "attention"},
        }
    )
    model = build_model(resolve(config), load(config.dataset, config.dataset_args))
    assert [type(e).__name__ for e in model.encoders.values()] == ["Conformer", "CNN"]
    assert [len(unit.gates) for unit in model.fusion.units] == [2, 2, 2]


def test_channels_last_is_another_layout_of_the_same_numbers() -> None:
    """Of a method without noise, which is drawn in the layout of the gradients that it is added to."""
    plain, other = build("ogm", dtype=torch.float64), build("ogm", dtype=torch.float64)
    channels_last(other.model)
    kernel = other.model.encoders["visual"].stages[1][0].weight
    assert kernel.is_contiguous(memory_format=torch.channels_last) and not kernel.is_contiguous()
    train(plain, 2), train(other, 2)
    for p, q in zip(plain.parameters, other.parameters, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_compile_is_off_unless_asked_for_and_leaves_old_keys_alone() -> None:
    plain = configure({})
    assert not plain.compile and configure({"compile": False}).key == plain.key != configure({"compile": True}).key


def test_what_cannot_be_compiled_says_why() -> None:
    engine = build("vanilla", "mmtm")
    batch = engine.loaders["train"].data  # type: ignore[attr-defined]
    why = compile_encoders(engine.model, batch)
    assert why is not None and "MMTMLate goes through encoders stage by stage" in why


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_compiled_encoders_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(os.environ, "TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    shapes = {"audio": (1, 6, 6), "visual": (2, 3, 6, 6)}
    x = {m: torch.randn(5, *shape) for m, shape in shapes.items()}
    nets = []
    for _ in range(2):
        torch.manual_seed(0)
        encoders = {"audio": CNN(shapes["audio"], widths=(4, 4)), "visual": MLP(shapes["visual"], widths=(8,))}
        nets.append(MultimodalModel(encoders, Concat({m: e.dim for m, e in encoders.items()}, 3)))
    plain, compiled = nets
    names = list(compiled.state_dict())
    batch = Batch(x, torch.zeros(5, dtype=torch.long), torch.arange(5))
    with torch._inductor.config.patch({"cpp.cxx": (None, "/no/compiler")}):
        why = compile_encoders(compiled, batch)
    assert why is not None and "compiler" in why and "\n" not in why
    torch.testing.assert_close(compiled(x).logits, plain(x).logits, rtol=0, atol=0)
    torch._dynamo.reset()
    assert compile_encoders(compiled, batch) is None
    for net in nets:
        net(x).logits.square().sum().backward()
    torch.testing.assert_close(compiled(x).logits, plain(x).logits, rtol=1e-4, atol=1e-5)
    for p, q in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5)
    assert list(compiled.state_dict()) == names
