"""Networks of timm, an extra."""

from __future__ import annotations

import sys

import pytest
import torch

from tests.helpers.models import encoder


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
