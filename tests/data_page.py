"""The page docs/data.md, from the datasets' classes and the committed results: ``python -m tests.data_page``."""

from __future__ import annotations

from pathlib import Path

from datasets.core.card_page import page
from datasets.registry import DATASETS, card

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data.md"


def text() -> str:
    return page({name: card(name) for name in DATASETS})


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text(), "utf-8")
