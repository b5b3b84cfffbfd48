"""What is kept about methods, fusions and encoders is what their classes say."""

from __future__ import annotations

import pytest

from benchmarks.config import parts
from models.registry import FUSIONS
from ogm.registry import STRATEGIES, find


def test_the_file_is_what_the_classes_say() -> None:
    assert parts.FILE.read_text("utf-8") == parts.content(), "python -m tests.paper_and_code writes it anew"


def test_a_class_of_somebody_else_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "mine", "ogm.strategies.ogm:OGM")
    assert parts.facts("method", "mine") == parts.facts("method", "ogm")


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'ogm_ge'"):
        parts.facts("method", "ogm_gee")


def test_docstrings_are_read_from_the_source_and_of_imported_modules_from_the_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for registry, kind in ((STRATEGIES, "strategy"), (FUSIONS, "fusion")):
        for name, place in registry.items():
            imported = find(name, registry, kind).__doc__
            assert parts.docstring(place) == imported
            with monkeypatch.context() as patch:
                patch.delitem(parts.sys.modules, place.partition(":")[0])
                assert parts.method_text(parts.docstring(place)) == parts.method_text(imported)
