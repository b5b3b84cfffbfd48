"""Seeds that are functions of place: what is random depends on where it is used, not on what was drawn before."""

from __future__ import annotations

import hashlib


def fold_in(seed: int, *parts: int | str) -> int:
    """Derive a new seed, so that what is random depends on where it is used and not on what was drawn before.

    Args:
        seed: The seed of the run.
        *parts: What the new seed is for, such as a purpose and a step number.

    Returns:
        An integer from 0 to 2^63 - 1.
    """
    text = "/".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
