"""Encoders against torchvision's own networks, their weights, and separate ways to the same numbers."""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor.config
import torchvision
from torch import Tensor, nn

from benchmarks.build import build_model, check, encoder_class
from benchmarks.config import ConfigError, configure
from datasets.registry import load
from models.encoder import Encoder
from models.encoders.cnn import CNN
from models.encoders.mlp import MLP
from models.fusions.concat import Concat
from models.model import MultimodalModel, channels_last, compile_encoders
from models.registry import ENCODERS, encoder_args_from_name
from models.weights import fewer_channels
from ogm.types import Batch
from tests.small import build, train


def encoder(name: str, shape: tuple[int, ...], **options: Any) -> Encoder:
    torch.manual_seed(0)
    made: Encoder = encoder_class(name)(shape, *encoder_args_from_name(name), **options)
    return made


# ---- ResNets
@pytest.mark.parametrize(("name", "dim"), [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048)])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_resnet_is_torchvisions_without_its_classifier(name: str, dim: int, channels: int) -> None:
    ours = encoder(name, (channels, 33, 40)).eval()
    theirs = torchvision.models.get_model(name)
    theirs.conv1, theirs.fc = nn.Conv2d(channels, 64, 7, 2, 3, bias=False), nn.Identity()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.randn(2, channels, 33, 40)
    assert ours.dim == dim
    torch.testing.assert_close(ours(x), theirs.eval()(x))
    first = ours.stages[0].weight
    assert first.shape[1] == channels
    assert float(first.detach().std()) == pytest.approx(
        (2 / (64 * 49)) ** 0.5, rel=0.05
    )  # fan-out: 64 kernels of 7 x 7


def test_stages_are_what_fusions_may_look_at() -> None:
    ours, x = encoder("resnet50", (3, 64, 64)).eval(), torch.randn(1, 3, 64, 64)
    maps = x
    for level, width, side in zip(ours.levels(), ours.widths, (16, 8, 4, 2), strict=True):
        maps = level(maps)
        assert maps.shape == (1, width, side, side)
    torch.testing.assert_close(ours(x), maps.mean((2, 3)))


# ---- weights
def saved(path: Path, name: str = "resnet18", **changes: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(1)
    state = {**torchvision.models.get_model(name).state_dict(), **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return state


@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18"])
def test_weights_from_a_file(name: str, tmp_path: Path) -> None:
    state = saved(tmp_path / "weights.pt")
    made = encoder(name, (3, 32, 32), weights=str(tmp_path / "weights.pt"))
    body = [x for n, x in state.items() if not n.startswith("fc.")]
    assert all(torch.equal(a, b) for a, b in zip(made.state_dict().values(), body, strict=True))


def test_imagenet_weights_come_from_torchvisions_own_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = Path(torchvision.models.ResNet18_Weights.DEFAULT.url).name
    state = saved(tmp_path / "checkpoints" / file)
    colour, grey = (encoder("resnet18", (c, 32, 32), weights="imagenet") for c in (3, 1))
    assert torch.equal(colour.stages[0].weight, state["conv1.weight"])
    torch.testing.assert_close(grey.stages[0].weight, state["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(grey.stages[7][1].conv2.weight, state["layer4.1.conv2.weight"])
    x = torch.rand(2, 1, 8, 8)  # grey in all channels looks the same to all of them
    for channels in (1, 2, 5):
        kernel = fewer_channels(state["conv1.weight"], channels)
        expected = nn.functional.conv2d(x.expand(-1, 3, -1, -1), state["conv1.weight"])
        torch.testing.assert_close(nn.functional.conv2d(x.expand(-1, channels, -1, -1), kernel), expected)


def test_weights_that_do_not_fit_are_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str = "resnet18", shape: tuple[int, ...] = (3, 32, 32), weights: str = "") -> str:
        with pytest.raises(ValueError, match="weights=") as error:
            encoder(name, shape, weights=weights or str(tmp_path / "w.pt"))
        assert "\n" not in str(error.value)
        return str(error.value)

    saved(tmp_path / "w.pt")
    assert "such as conv1.weight: it has (64, 3, 7, 7), this network (64, 1, 7, 7)" in refused(shape=(1, 32, 32))
    assert "of another network: 80 missing" in refused("resnet34")
    assert "there is no such file" in refused(weights=str(tmp_path / "none.pt"))
    (tmp_path / "w.pt").write_text("text")
    assert "no state dict as torch.save writes it" in refused()
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")  # a pickle that would run code
    assert "no state dict as torch.save writes it" in refused()
    torch.save([1, 2], tmp_path / "w.pt")
    assert "holds no state dict" in refused()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", lambda *_: (_ for _ in ()).throw(OSError("no network")))
    assert "resnet18's could not be fetched: no network" in refused(weights="imagenet")


def test_a_file_of_weights_is_part_of_what_makes_a_run(tmp_path: Path) -> None:
    given = {"encoders.audio": "resnet18", "encoder_args.audio.weights": str(tmp_path / "w.pt")}
    saved(tmp_path / "w.pt")
    before = configure(given)
    saved(tmp_path / "w.pt", **{"bn1.bias": torch.ones(64)})
    assert configure(given).key != before.key and list(before.files) == [str(tmp_path / "w.pt")]


# ---- other libraries
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "regnet_y_400mf"])
def test_any_network_of_torchvision(name: str) -> None:
    made = encoder(f"torchvision:{name}", (2, 3, 40, 48))
    y = made(torch.randn(2, 2, 3, 40, 48))
    assert y.shape == (2, made.dim)
    y.sum().backward()
    assert all(p.grad is not None for p in made.parameters())  # nothing is left of the classifier


@pytest.mark.parametrize(
    ("name", "shape", "why"),
    [
        ("torchvision:resnet19", (3, 32, 32), "no classification network 'resnet19'; near it: resnet18"),
        ("torchvision:inception_v3", (3, 32, 32), "cannot take inputs of shape"),
        ("torchvision:vit_b_16", (3, 32, 48), "takes square images, not 32 x 48"),
        ("resnet18", (32, 8), "no spectrogram, image or clip"),
        ("transformer", (3, 2, 8, 8), "no sequence"),
        ("conformer", (3, 2, 8, 8), "no sequence"),
    ],
)
def test_inputs_and_names_that_will_not_do(name: str, shape: tuple[int, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        encoder(name, shape)
    assert "\n" not in str(error.value)


def test_timm_is_an_extra_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="needs timm, an extra: install it"):
        encoder("timm:resnet10t", (3, 32, 32))


def test_timm() -> None:
    pytest.importorskip("timm")
    made = encoder("timm:resnet10t", (1, 32, 32))
    assert made(torch.randn(2, 1, 32, 32)).shape == (2, made.dim)
    with pytest.raises(ValueError, match="timm has no network"):
        encoder("timm:resnet10x", (1, 32, 32))


def test_names_are_checked_before_anything_is_made() -> None:
    for given, why in {
        "tomvision:x": "did you mean 'torchvision'",
        "resnet": "torchvision:NAME.*did you mean 'resnet",
    }.items():
        with pytest.raises(ConfigError, match=why):
            configure({"encoders.audio": given})
    with pytest.raises(ConfigError, match=r"encoder_args.audio.width"):
        check(configure({"encoders.audio": "torchvision:resnet18", "encoder_args.audio.width": 3}))


def test_another_encoder_for_each_modality() -> None:
    config = configure(
        {
            "dataset_args.num_train": 64,
            "fusion": "mmtm",
            "encoders": {"audio": "conformer", "visual": "cnn"},
            "encoder_args.audio": {"width": 16, "layers": 2, "pool": "attention"},
        }
    )
    model = build_model(config, load(config.dataset, config.dataset_args))
    assert [type(e).__name__ for e in model.encoders.values()] == ["Conformer", "CNN"]
    assert [len(unit.gates) for unit in model.fusion.units] == [2, 2, 2]


# ---- time
@pytest.mark.parametrize("pool", ["mean", "max", "attention"])
def test_pooling_over_time(pool: str) -> None:
    made = encoder("cnn", (3, 4, 8, 8), widths=(4, 8), pool=pool).double()
    x = torch.randn(2, 3, 4, 8, 8, dtype=torch.float64)
    frames = torch.stack([made(x[:, :, t : t + 1]) for t in range(4)], 1)
    expected = frames.amax(1) if pool == "max" else frames.mean(1)
    torch.testing.assert_close(made(x), expected)  # attention starts as the mean
    if pool == "attention":
        with torch.no_grad():
            made.over_time.score.weight.normal_()
        weight = (frames @ made.over_time.score.weight.T).softmax(1)
        torch.testing.assert_close(made(x), (weight * frames).sum(1))


def test_sequences_are_read_step_by_step() -> None:
    for name in ("transformer", "conformer"):
        made = encoder(name, (10, 6), width=8, layers=1, heads=2).double().eval()
        assert made(torch.randn(3, 10, 6, dtype=torch.float64)).shape == (3, 8)
        assert made(torch.randn(3, 7, 6, dtype=torch.float64)).shape == (3, 8)  # shorter ones, too
        flat = encoder(name, (2, 3, 10), width=8, layers=1, heads=2).double().eval()
        x = torch.randn(3, 2, 3, 10, dtype=torch.float64)
        same = copy.deepcopy(flat)
        torch.testing.assert_close(flat(x), same(x.reshape(3, 6, 10).transpose(1, 2)))


def test_a_vit_sees_whole_patches() -> None:
    made = encoder("vit", (1, 9, 8), patch=4, width=8, layers=1, heads=2).double()
    x = torch.randn(2, 1, 9, 8, dtype=torch.float64)
    assert made.maps(x).shape == (2, 8, 3, 2)
    padded = nn.functional.pad(x, (0, 0, 0, 3))
    torch.testing.assert_close(made(x), encoder_like(made, padded))


def encoder_like(made: Encoder, x: Tensor) -> Tensor:
    """A ViT by hand: patches in reading order, one block, the norm, the mean."""
    vit: Any = made
    tokens = vit.patch(x).flatten(2).mT + vit.positions.flatten(1).mT
    return vit.norm(vit.blocks[0](tokens)).mean(1)


SMALL = {"cnn": {"widths": (4, 4)}, "mlp": {"widths": (5, 4)}, "transformer": {"width": 4, "layers": 1, "heads": 2}}
SMALL |= {name: {"width": 4, "layers": 1, "heads": 2} for name in ("vit", "conformer")}
SMALL["vit"]["patch"] = 2
SMALL["conformer"]["kernel"] = 3


@pytest.mark.parametrize("name", SMALL)
def test_gradients_are_right(name: str) -> None:
    made = encoder(name, (1, 4, 4), **SMALL[name]).double()
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(made, x)


# ---- on an accelerator
def test_channels_last_is_another_layout_of_the_same_numbers() -> None:
    plain, other = build("ogm_ge", dtype=torch.float64), build("ogm_ge", dtype=torch.float64)
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


def test_every_encoder_is_here() -> None:
    assert set(ENCODERS) == {*SMALL, "resnet18", "resnet34", "resnet50"}
