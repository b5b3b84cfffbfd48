"""MMTM with a concat head."""

from __future__ import annotations

from models.fusions.concat import Concat
from models.fusions.mmtm import MMTMLate


class MMTMConcat(MMTMLate):
    """As ``mmtm``; one linear layer over all final features (spec fusion.md, section 6)."""

    classifier = Concat
