"""Weights that somebody else has trained: they arrive where they belong, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from benchmarks.config.run_config import configure
from models.weights import fewer_channels, load_weights
from tests.helpers.models import encoder


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


def test_a_kernel_for_other_channels_sees_a_grey_image_as_before() -> None:
    weight, x = torch.randn(4, 3, 5, 5), torch.rand(2, 1, 8, 8)
    for channels in (1, 2, 5):
        kernel = fewer_channels(weight, channels)
        expected = nn.functional.conv2d(x.expand(-1, 3, -1, -1), weight)
        torch.testing.assert_close(nn.functional.conv2d(x.expand(-1, channels, -1, -1), kernel), expected)


def test_weights_that_do_not_fit_are_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = {name: torchvision.models.get_model(name) for name in ("resnet18", "resnet34")}
    for network in networks.values():
        network.fc = nn.Identity()

    def refused(name: str = "resnet18", weights: str = "") -> str:
        with pytest.raises(ValueError, match="weights=") as error:
            load_weights(networks[name], weights or str(tmp_path / "w.pt"), name, "fc")
        assert "\n" not in str(error.value)
        return str(error.value)

    saved(tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"such as conv1.weight: it has \(64, 3, 7, 7\), this network \(64, 1, 7, 7\)"):
        encoder("resnet18", (1, 32, 32), weights=str(tmp_path / "w.pt"))
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
    (tmp_path / "w.pt").write_bytes(b"some weights")
    before = configure(given)
    (tmp_path / "w.pt").write_bytes(b"others")
    assert configure(given).key != before.key and list(before.files) == [str(tmp_path / "w.pt")]
