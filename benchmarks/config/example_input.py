"""The input that costs are stated for: a sample of CREMA-D in the preset ``paper``."""

from __future__ import annotations

SHAPES = {"audio": (1, 257, 188), "visual": (3, 1, 224, 224)}  # the spectrogram of 3 s; one frame
CLASSES = 6  # emotions
