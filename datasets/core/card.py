"""What there is to know about a dataset before any of it is read. Needs no torch, so that listing is quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasets.core.paths import cache_folder, raw_folder


@dataclass(frozen=True)
class Card:
    """Facts about a dataset for people.

    In a dataset's class it is written with literal values (``card = Card(title="...", ...)``): ``registry.card`` reads
    it from the source, without importing the dataset.

    Args:
        title: The name, and what the data is, in one line.
        modalities: The names of the modalities, in the dataset's order; empty where the user's data decides.
        classes: The number of classes; 0 where the user's data decides.
        size: What has to be downloaded, and the disk space the prepared set takes.
        licence: The licence of the data.
        citation: The publications to cite.
        how_to_get: What to download, from where, and into which folder. Where one command does all of it, the text
            begins with it: "`python -m datasets download NAME`".
        quirks: What a user should know before comparing numbers, one sentence each.
        raw_files: Names that must exist in the raw folder before the dataset can be prepared; ``"a|b"`` stands for
            either of them. A dataset without raw files is generated from a seed.
        preparation: How long preparing takes, on what machine; with the word "measured" or "estimated", and from what.
        run_on_cpu: How long one run with the recipe takes (vanilla, concat) on a CPU, with the same word.
        run_on_gpu: The same on a GPU.
        example: A worked example, line by line, for data of the user's own.
    """

    title: str
    modalities: tuple[str, ...]
    classes: int
    size: str
    licence: str
    citation: str
    how_to_get: str
    quirks: tuple[str, ...] = ()
    raw_files: tuple[str, ...] = ()
    preparation: str = "not measured"
    run_on_cpu: str = "not measured"
    run_on_gpu: str = "not measured"
    example: tuple[str, ...] = ()

    def raw_files_exist(self, folder: Path) -> bool:
        """Whether a raw folder has what preparing needs. The files are not opened."""
        return bool(self.raw_files) and all(
            any((folder / name).exists() for name in names.split("|")) for names in self.raw_files
        )

    def state(self, name: str) -> str:
        """Whether the dataset ``name`` is embedded, prepared (and how often), has raw files, or is not there."""
        if not self.raw_files:
            return "embedded"
        prepared = len(list(cache_folder(name).glob("*/manifest.json")))
        if prepared:
            return "prepared" if prepared == 1 else f"prepared ({prepared} ways)"
        return "raw files there" if self.raw_files_exist(raw_folder(name)) else "not there"
