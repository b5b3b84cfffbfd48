"""The notebook runs from its first cell to its last, and is committed without what it printed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "your_own_loop.ipynb"
CELLS: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]


def test_it_is_short_and_committed_without_outputs() -> None:
    assert len(CELLS) <= 8 and NOTEBOOK.stat().st_size < 10_000
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert code and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.filterwarnings("default")  # of Jupyter's own libraries
def test_every_cell_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: make test-notebook")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: make test-notebook")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=280, resources={"metadata": {"path": NOTEBOOK.parent}}).execute()
    printed = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in printed)
    assert text.startswith("vanilla") and "ogm_ge" in text and "accuracy/visual" in text
    assert [output for output in printed if "image/png" in output.get("data", {})]
