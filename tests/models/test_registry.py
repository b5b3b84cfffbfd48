"""Names of encoders and fusions."""

from __future__ import annotations

import pytest

from benchmarks.config.run_config import ConfigError, configure
from benchmarks.runner.experiment import resolve
from models.registry import ENCODERS, FAMILIES, FUSIONS, encoder_args_from_name, encoder_path
from ogm.registry import find


def test_every_name_leads_to_a_class() -> None:
    for names in (ENCODERS, FAMILIES, FUSIONS):
        assert all(find(name, names, "class").source for name in names)


def test_a_network_of_another_library_is_made_by_its_name() -> None:
    assert encoder_path("torchvision:vit_b_16") == FAMILIES["torchvision"]
    assert encoder_args_from_name("torchvision:vit_b_16") == ("vit_b_16",)
    assert encoder_path("cnn") == ENCODERS["cnn"] and encoder_args_from_name("cnn") == ()
    with pytest.raises(KeyError):
        encoder_path("tomvision:x")


def test_names_are_checked_before_anything_is_made() -> None:
    for given, why in {
        "tomvision:x": "did you mean 'torchvision'",
        "resnet": "list encoders.*did you mean 'resnet",
    }.items():
        with pytest.raises(ConfigError, match=why):
            configure({"encoders.audio": given})
    with pytest.raises(ConfigError, match=r"encoder_args.audio.width"):
        resolve(configure({"encoders.audio": "torchvision:resnet18", "encoder_args.audio.width": 3}))
