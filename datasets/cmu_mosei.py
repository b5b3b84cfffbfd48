"""CMU-MOSEI: ten times CMU-MOSI, from more speakers and about more than films; see cmu_mosi.py for what is done to it.

A pickle has to be in memory whole while it is prepared: 4 GB for the aligned file, 13 GB for the other.
"""

from __future__ import annotations

from typing import ClassVar

from datasets.cards import CARDS
from datasets.cmu_mosi import CMUMOSI


class CMUMOSEI(CMUMOSI):
    """Samples: text, audio and visual, each (L, D)."""

    name = "cmu_mosei"
    file: ClassVar[str] = "mosei_senti_data"
    how_to_get: ClassVar[str] = CARDS["cmu_mosei"].how_to_get
