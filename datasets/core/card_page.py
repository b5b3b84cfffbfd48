"""What all datasets are, for people: a list for the terminal, and the page docs/data.md. Needs no torch."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path

from datasets.core.card import Card

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"
WIDTH, TITLES = 80, 11  # columns of a terminal, and those that the titles of the facts take


def committed_results() -> dict[str, list[str]]:
    """Dataset -> the folders of results/reference with a table on it, as their suite.json say; none where none are."""
    found: dict[str, list[str]] = {}
    for path in sorted(REFERENCE.glob("*/suite.json")):
        tables = json.loads(path.read_text("utf-8"))["tables"]
        for name in sorted({str(table["dataset"]) for table in tables}):
            found.setdefault(name, []).append(path.parent.name)
    return found


def one_command(name: str, card: Card) -> str:
    """The command that gets a dataset, or what a person has to do."""
    if not card.raw_files:
        return "nothing to get"
    command = f"python -m datasets download {name}"
    if card.how_to_get.startswith(f"`{command}`"):
        return f"{command}, then prepare {name}"
    return f"by hand; `python -m datasets info {name}` says what and where"


def facts(name: str, card: Card, results: Mapping[str, list[str]]) -> dict[str, str]:
    """Title -> text, of what is to be known before one decides for a dataset."""
    return {
        "what": card.title,
        "samples": f"{', '.join(card.modalities) or 'any modalities'}; {card.classes or 'any number of'} classes",
        "licence": card.licence,
        "get it": one_command(name, card),
        "size": card.size,
        "prepare": card.preparation,
        "a run": f"CPU: {card.run_on_cpu}. GPU: {card.run_on_gpu}",
        "results": ", ".join(results.get(name, [])) or "none committed here",
    }


def for_terminal(name: str, card: Card, results: Mapping[str, list[str]]) -> str:
    """The facts of one dataset, 80 columns wide; the first line has its name and its state."""
    lines = [f"{name:<{TITLES + 6}}{card.state(name)}"]
    for title, text in facts(name, card, results).items():
        first, rest = f"  {title:<{TITLES - 2}}", " " * TITLES
        lines += textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    return "\n".join(lines)


def page(cards: Mapping[str, Card]) -> str:
    """The page on all datasets, in Markdown."""
    results = committed_results()
    parts = [
        "# Data",
        "This page is made from the datasets' classes and from the committed results by `python -m tests.data_page`; "
        "what is written here by hand is lost next time. Times are of one run with the dataset's recipe (vanilla, "
        "concat), and each says whether it is measured or estimated.",
    ]
    for name, card in cards.items():
        about = facts(name, card, results)
        lines = [
            f"- **{title.capitalize()}.** {text}" for title, text in about.items() if title not in ("what", "results")
        ]
        lines.append(f"- **How to get it.** {card.how_to_get}")
        links = [f"[{folder}](../results/reference/{folder}/README.md)" for folder in results.get(name, [])]
        lines.append(f"- **Results here.** {', '.join(links) or 'none'}")
        lines.append(f"- **Citation.** {card.citation}")
        lines += [f"- {quirk}" for quirk in card.quirks]
        parts += [f"## {name}", f"{card.title}.", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"
