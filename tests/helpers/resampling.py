"""What librosa's default resampler makes of a known signal: how ``resampling.json`` was made, and from what.

python -m tests.helpers.resampling   # made with librosa 0.11.0 and soxr 1.1.0, which it needs
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

STORED = Path(__file__).with_suffix(".json")
PAIRS = ((16_000, 22_050), (44_100, 16_000), (48_000, 16_000), (44_100, 22_050), (22_050, 16_000))


def noise(rate: int) -> np.ndarray:
    """(2 rate,) float32: two seconds of white noise of 16 bits in [-0.25, 0.25), from sha3 and no random library."""
    bits = hashlib.shake_256(f"noise {rate}".encode()).digest(4 * rate)
    return (np.frombuffer(bits, "<i2") / 131_072).astype(np.float32)


def theirs(x: np.ndarray, rate: int, target: int) -> np.ndarray:
    """(257,): ln(|S| + 1e-7) of each frequency, the mean over time, by librosa alone."""
    import librosa

    spectrum = librosa.stft(librosa.resample(x, orig_sr=rate, target_sr=target), n_fft=512, hop_length=353)
    return np.asarray(np.log(np.abs(spectrum) + 1e-7).mean(1))


if __name__ == "__main__":
    found = {f"{r} to {t}": [round(float(x), 4) for x in theirs(noise(r), r, t)] for r, t in PAIRS}
    STORED.write_text(json.dumps(found) + "\n")
