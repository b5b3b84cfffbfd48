"""Every block of docs/your_own_loop.md runs, one after the other, with the real libraries."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "your_own_loop.md").read_text("utf-8")
LIBRARIES = ("accelerate", "lightning", "transformers", "ignite")


def sections() -> dict[str, list[str]]:
    """Heading -> its blocks of code."""
    parts = re.split(r"^## (.*)$", PAGE, flags=re.MULTILINE)
    found = zip(parts[1::2], parts[2::2], strict=True)
    return {heading: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for heading, text in found}


FIRST, *OTHERS = sections()


def library(blocks: list[str]) -> str | None:
    """The library that the blocks of a section import, if any."""
    return next((name for name in LIBRARIES if any(f"from {name}" in block for block in blocks)), None)


@pytest.mark.filterwarnings("ignore")  # trainers warn of few workers, of short epochs, of torch's own changes
@pytest.mark.parametrize("heading", OTHERS)
def test_the_blocks_of_a_section_run(heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = sections()[heading]
    needed = library(blocks)
    if needed is not None and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    if needed == "transformers":  # the page says why
        monkeypatch.setattr("transformers.trainer.is_datasets_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    space: dict[str, Any] = {"__name__": "page"}
    if heading.startswith("What each modality"):
        blocks = [*sections()["A plain loop"], *blocks]
    for block in (*sections()[FIRST], *blocks):
        exec(compile(block, "docs/your_own_loop.md", "exec"), space)
    if "results" in space:
        named = set(re.findall(r"`(\w+(?:/audio)?)`(?:, `(\w+/audio)`)? \|", PAGE))
        assert {name for pair in named for name in pair if name} <= space["results"]["test"].keys()


def test_every_library_has_a_section_and_every_link_a_file() -> None:
    assert {library(blocks) for blocks in sections().values()} == {None, *LIBRARIES}
    links = re.findall(r"\]\(([^)]+)\)", PAGE)
    docs = Path(__file__).resolve().parents[2] / "docs"
    assert len(links) >= 6 and all((docs / link).exists() for link in links)
    assert max(len(line) for line in PAGE.splitlines() if not line.startswith("|")) <= 125
