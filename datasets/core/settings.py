"""Settings of a command line, written name=value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml


def read_settings(words: Sequence[str], example: str) -> tuple[dict[str, Any], list[str]]:
    """Read settings as a command line gives them.

    Args:
        words: Each written name=value, such as ``["lr=0.05", "method_args.alpha=0.8"]``; values are YAML.
        example: A setting that the message shows for a word that is none.

    Returns:
        Name -> value, where dots stay in the names; and one line per mistake.
    """
    values: dict[str, Any] = {}
    mistakes = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            mistakes.append(f"{word!r}: settings are written name=value, such as {example}")
            continue
        if name in values:
            mistakes.append(f"{name}: given twice")
        try:
            values[name] = number(yaml.safe_load(text))
        except yaml.YAMLError:
            mistakes.append(f"{word!r}: the value is not readable as YAML")
    return values, mistakes


def number(value: Any) -> Any:
    """YAML reads 1e-3 as text, for want of a dot; people mean the number."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value
