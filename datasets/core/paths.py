"""Where raw files are looked for, and where prepared ones are kept."""

from __future__ import annotations

import os
from pathlib import Path


def raw_folder(name: str) -> Path:
    """What somebody downloaded; only read, so it may be write-protected. $OGM_DATA/NAME, or data/NAME."""
    return Path(os.environ.get("OGM_DATA") or "data") / name


def cache_folder(name: str) -> Path:
    """What ``prepare`` made of it. $OGM_CACHE/NAME, or data/prepared/NAME."""
    return Path(os.environ.get("OGM_CACHE") or "data/prepared") / name
