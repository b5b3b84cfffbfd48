"""What ``import ogm`` offers."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import ogm

ROOT = Path(__file__).resolve().parents[2]


def test_every_public_name_can_be_imported() -> None:
    for name in ogm.__all__:
        assert getattr(ogm, name) is not None
    assert {*ogm._MODULES, "create", "__version__"} == set(ogm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Stratgey'"):
        ogm.Stratgey  # noqa: B018


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert ogm.__version__ == project["version"]
