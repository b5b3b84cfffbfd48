"""Texts as sequences of bytes: every language and spelling, without a vocabulary that would have to be learned."""

from __future__ import annotations

import codecs
from collections import Counter
from pathlib import Path

import numpy as np

from datasets.core.checks import advice, refuse_pointer
from datasets.core.errors import ManifestError
from datasets.core.lazy import torch

VALUES = 256  # of a byte


def read_text(path: Path, length: int, notes: Counter[str]) -> np.ndarray:
    """The first bytes of a UTF-8 text.

    No more of the file is read, so its size does not matter. A byte order mark is left out.

    Args:
        path: A file of text.
        length: How many bytes are kept; a shorter text is followed by zeros.
        notes: ``texts_cut`` counts texts that are longer.

    Returns:
        (length,) uint8.

    Raises:
        ManifestError: The file cannot be read, is empty, or does not hold UTF-8 text.
    """
    refuse_pointer(path, ManifestError)
    try:
        with path.open("rb") as file:
            data = file.read(len(codecs.BOM_UTF8) + length + 1).removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); {advice(error, 'get it again')}") from error
    kept = data[:length]
    try:
        codecs.getincrementaldecoder("utf-8")().decode(kept, final=len(data) <= length)  # else a character may be cut
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if b"\0" in kept or not kept.strip():
        reason = "a byte 0, as in no text" if kept.strip() else "nothing but blanks"
        raise ManifestError(f"{path}: {reason}; correct it, or leave the cell empty (allow_missing=true)")
    notes["texts_cut"] += len(data) > length
    return np.frombuffer(kept.ljust(length, b"\0"), np.uint8)


def one_hot(texts: torch.Tensor) -> torch.Tensor:
    """Texts (B, L) of bytes as sequences (B, L, 256): one 1 in each step, and zeros alone behind the end.

    A linear layer on it, with which encoders of sequences begin, is an embedding of the bytes. Unlike numbers of bytes
    it can be mixed, dropped and noised as other inputs are.
    """
    values = torch.arange(VALUES, dtype=torch.uint8, device=texts.device)
    return ((texts[..., None] == values) & (texts[..., None] != 0)).float()
