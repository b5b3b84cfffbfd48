"""What is kept about methods, fusions and encoders is what their classes say."""

from __future__ import annotations

import pytest

from benchmarks.config import parts
from ogm.registry import STRATEGIES
from tests.parts import content


def test_the_file_is_what_the_classes_say() -> None:
    assert parts.FILE.read_text("utf-8") == content(), "python -m tests.parts writes it anew"


def test_a_class_whose_source_has_changed_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"method": {"ogm": {"source": "an earlier one", "facts": {"title": "an earlier one"}}}}
    monkeypatch.setattr(parts, "_kept", lambda: kept)
    assert parts.facts("method", "ogm")["title"] == "On-the-fly Gradient Modulation"


def test_a_class_of_somebody_else_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "mine", "ogm.strategies.ogm:OGM")
    assert parts.facts("method", "mine") == parts.facts("method", "ogm")
    assert parts.source_digest("_method_file_mine:Mine") == ""


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'ogm_ge'"):
        parts.facts("method", "ogm_gee")
