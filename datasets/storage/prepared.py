"""Datasets that are decoded once, by ``prepare``, and then read from a prepared folder: what they have in common."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.core.base import DataModule, MultimodalDataset
from datasets.core.errors import CacheError, DataError
from datasets.core.lazy import torch
from datasets.core.paths import cache_folder, raw_folder
from datasets.core.progress import Progress, bar
from datasets.storage.build import build
from datasets.storage.cache import Cache, Column, Decoded, RawItem, canonical, short_digest, source_digest
from ogm.registry import nearest

_MODULES: dict[tuple[str, ...], DataModule] = {}


class Options(BaseModel):
    """The arguments of one dataset. A subclass lists them with types and defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DecodePlan:
    """What a dataset has to decode.

    Args:
        items: The raw files, divided into what is decoded at once.
        columns: The arrays to fill, by name; or a function that returns them, where they cannot be known without
            opening large files. It is called only if something is to be decoded.
        decode: Turns one item into rows of the columns.
    """

    def __init__(
        self,
        items: Sequence[RawItem],
        columns: Mapping[str, Column] | Callable[[], Mapping[str, Column]],
        decode: Callable[[RawItem], Decoded],
    ) -> None:
        self.items, self._columns, self.decode = items, columns, decode

    @property
    def columns(self) -> Mapping[str, Column]:
        """The arrays to fill, by name."""
        return self._columns() if callable(self._columns) else self._columns


class Prepared(MultimodalDataset):
    """A dataset with three verbs, each safe to repeat: ``download``, ``prepare`` and (in its Cache) ``verify``.

    A subclass says which of its options decide what is stored (``storage``), what is to be decoded (``scan``), what the
    raw files of an item hold (``sources``) and how the prepared items become three splits (``split``). Preparations
    that store the same share one folder.
    """

    Options: ClassVar[type[Options]]

    # ---- what a dataset writes
    @classmethod
    def storage(cls, options: Any) -> dict[str, Any]:
        """Everything that decides the stored bytes, as JSON. Its digest names the prepared folder."""
        raise NotImplementedError

    @classmethod
    def scan(cls, options: Any) -> DecodePlan:
        """Looks at the raw files without decoding any.

        Raises:
            DataError: Something is missing or wrong.
        """
        raise NotImplementedError

    @classmethod
    def sources(cls, options: Any, keys: Sequence[str]) -> Mapping[str, str]:
        """What the raw files hold now, without decoding any of them.

        Args:
            options: Checked arguments.
            keys: The items of a prepared set.

        Returns:
            Key -> ``RawItem.source``, of those items whose raw files are there.
        """
        raise NotImplementedError

    @classmethod
    def split(cls, options: Any, cache: Cache) -> DataModule:
        """The three splits of a prepared set."""
        raise NotImplementedError

    @classmethod
    def lists_digest(cls, options: Any) -> str:
        """A digest of whatever beside the prepared set decides the splits."""
        return ""

    @classmethod
    def download(cls, base: str | None = None, progress: Progress | None = None) -> str:
        """Fetches what may be fetched.

        Args:
            base: An address to take the files from, instead of the official ones.
            progress: Is told how far it is.

        Returns:
            What is left to do by hand, or "".

        Raises:
            DataError: The server fails, sends other bytes than published, or the disk cannot be written.
        """
        raise NotImplementedError

    # ---- what it gets
    def load(self, i: int, rng: torch.Generator | None) -> dict[str, torch.Tensor]:
        """One sample as the loader's batches hold it, by the subclass's ``batch`` and ``augment``."""
        seeds = [] if rng is None else [rng.initial_seed()]
        batch = self.batch([(i, seed) for seed in seeds] or [i])
        batch = self.augment(batch, seeds) if seeds else batch
        return {m: x[0] for m, x in batch.inputs.items()}

    @classmethod
    def options(cls, args: Mapping[str, Any]) -> Any:
        """Checked arguments.

        Raises:
            DataError: One line for all mistakes; an unknown argument comes with the nearest known one.
        """
        try:
            return cls.Options(**args)
        except ValidationError as error:
            raise DataError(
                f"{cls.name}: " + "; ".join(_complaint(e, cls.Options.model_fields) for e in error.errors())
            ) from error

    @classmethod
    def raw_available(cls) -> bool:
        """Whether the raw folder has what preparing needs (looked at, not checked)."""
        return cls.card.raw_files_exist(raw_folder(cls.name))

    @classmethod
    def folder(cls, options: Any) -> Path:
        """Where these options' prepared set is, or would be."""
        return cache_folder(cls.name) / short_digest(cls.storage(options))

    @classmethod
    def ready(cls, **args: Any) -> bool:
        """Whether it is prepared with these arguments."""
        return (cls.folder(cls.options(args)) / "manifest.json").is_file()

    @classmethod
    def open(cls, options: Any) -> Cache:
        """The prepared set.

        Raises:
            DataError: There is none; the message names the command that helps.
            CacheError: It is damaged, or holds another preparation than its name says.
        """
        folder = cls.folder(options)
        if not (folder / "manifest.json").is_file():
            help_ = command(cls.name, options) if cls.raw_available() else f"python -m datasets download {cls.name}"
            raise DataError(f"{cls.name} is not prepared ({folder} is not there): run `{help_}`")
        cache = Cache(folder)
        if cache.manifest["recipe"] != json.loads(canonical(cls.storage(options))):
            raise CacheError(
                f"{folder} holds another preparation than its name says; delete it and run "
                f"`{command(cls.name, options)}`"
            )
        return cache

    @classmethod
    def refuse_changed(cls, options: Any, cache: Cache) -> None:
        """Raises CacheError where raw files are there and no longer those that the prepared set was made of."""
        found = cls.sources(options, cache.keys)
        if other := [key for key in cache.keys if found.get(key, cache.sources[key]) != cache.sources[key]]:
            raise CacheError(
                f"{cls.name}: the raw files of {len(other)} of {len(cache.keys)} ({', '.join(other[:3])}"
                f"{', ...' if len(other) > 3 else ''}) have changed since they were prepared: run "
                f"`{command(cls.name, options)}`"
            )

    @classmethod
    def module(cls, **args: Any) -> DataModule:
        """The three splits, from the prepared set alone; made once per process.

        Raw files need not be there any more; where they are, they have to be those that were prepared.

        Raises:
            DataError: Not prepared, damaged, or made of other raw files than are there now.
        """
        options = cls.options(args)
        cache = cls.open(options)
        cls.refuse_changed(options, cache)
        chosen = canonical(options.model_dump())
        key = (cls.name, str(cache.folder.absolute()), cache.digest, chosen, cls.lists_digest(options))
        if key not in _MODULES:
            _MODULES[key] = cls.split(options, cache)
        return _MODULES[key]

    @classmethod
    def prepare(cls, progress: bool = True, **args: Any) -> Path:
        """Decodes what is not decoded yet and returns the prepared folder.

        Without raw files an existing folder is taken as it is; with other raw files than it was made of, it is made
        again.

        Args:
            progress: Whether to show a progress bar.
            args: The dataset's arguments.

        Raises:
            DataError: Files are missing or damaged, an argument is wrong, or the disk cannot be written.
        """
        options = cls.options(args)
        folder = cls.folder(options)
        if not cls.raw_available():
            return cls.open(options).folder
        plan = cls.scan(options)
        try:
            source = cls.open(options).manifest["source"] if cls.ready(**args) else ""
        except CacheError:
            source = ""  # damaged, or of another version: it is made again
        if source == source_digest(plan.items):
            return folder
        with bar(progress) as show:
            return build(folder, cls.storage(options), plan.items, plan.columns, plan.decode, show).folder


def command(name: str, options: Options) -> str:
    """The line that prepares a dataset with these options."""
    words = [f"{key}={value}" for key, value in options.model_dump(exclude_defaults=True).items()]
    return shlex.join(["python", "-m", "datasets", "prepare", name, *words])


def _complaint(error: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        return f"no argument is called {name!r}{nearest(name, known, 'there are ' + ', '.join(known))}"
    reason = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}={error['input']!r}: {reason[0].lower()}{reason[1:]}" if name else reason
