"""SynthAV: sounds and moving shapes drawn from a seed, where we know which modality carries the label.

Eight classes, each a coloured shape on a noisy background and a harmonic tone in noise. In each sample each modality
shows its cue with a probability of its own (``p_audio``, ``p_visual``), independently of the other and of the label. An
absent cue is not rendered: only the background is left. The sound is nearly linear in the mel bins and quickly learned;
the shape takes trained, translation-tolerant filters. That is the imbalance, and ``cues`` is its ground truth: a
perfect reader of cues that guesses otherwise reaches p + (1 - p) / 8 with one modality.

Readings of what the recipe leaves open: a harmonic and the distractor each have a phase of their own; the STFT is not
normalised and reflects at the edges; the mel scale is 2595 log10(1 + f / 700); coarse grids span the image from corner
to corner; a stroke is a line segment with round ends; the occluder has hard edges; gain is one number per clip, offset
one per channel. "Absent" is the cue, never the modality, so ``present`` stays None.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from typing_extensions import override

from datasets.core.base import DataModule, MultimodalDataset, ScanReport
from datasets.core.card import Card
from datasets.core.recipes import SMALL
from datasets.core.sample_keys import SampleKey, sample_index
from ogm.lazy import torch
from ogm.registry import nearest
from ogm.types import Batch

if TYPE_CHECKING:
    from torch import Tensor

GENERATOR = 1  # raise it whenever the same knobs and seed come to mean other tensors
BLOCK = 128  # samples drawn at a time; the order of the draws, so the data, depends on it
MAX_SAMPLES = 1_000_000  # samples in a split: they live in memory, 18 kB each


# ---- knobs and presets


def _knob(default: Any, low: float, high: float) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class Knobs:
    """What a user may turn. A pair is the range of a uniform draw. Raises ValueError for what cannot be."""

    p_audio: float = _knob(0.70, 0, 1)  # probability that the tone is there
    p_visual: float = _knob(0.90, 0, 1)  # probability that the shape is there
    num_train: int = _knob(1216, 1, MAX_SAMPLES)  # 19 full batches of 64
    num_val: int = _knob(400, 1, MAX_SAMPLES)
    num_test: int = _knob(800, 1, MAX_SAMPLES)
    snr_db: tuple[float, float] = _knob((0.0, 10.0), -60, 60)  # of the tone over the noise, in dB
    pitch_jitter: float = _knob(0.01, 0, 1)  # standard deviation of the logarithm of the pitch
    p_distractor: float = _knob(0.5, 0, 1)  # probability of a sine that means nothing
    contrast: tuple[float, float] = _knob((0.4, 0.7), 0, 1)  # of shape and stroke against the background
    p_clutter: float = _knob(0.5, 0, 1)  # probability of a stroke that means nothing
    p_occluder: float = _knob(0.1, 0, 1)  # probability of a grey bar across the image
    pixel_noise: float = _knob(0.05, 0, 1)  # standard deviation, where the image spans [0, 1]

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, _checked(f.name, getattr(self, f.name), f.default, **f.metadata))


def _checked(name: str, value: Any, default: Any, low: float, high: float) -> Any:
    """``value`` as the type of ``default``, so that equal settings compare and print alike."""
    pair = isinstance(default, tuple)
    kind: type[Any] = int if isinstance(default, int) else float
    number: type[Any] = Integral if kind is int else Real
    parts = list(value) if pair and isinstance(value, (list, tuple)) else [value]
    fits = [isinstance(x, number) and not isinstance(x, bool) and low <= x <= high for x in parts]
    if not all(fits) or len(parts) != 1 + pair or parts != sorted(parts):
        what = "[low, high], two numbers in order" if pair else "a whole number" if kind is int else "a number"
        raise ValueError(f"synthav: {name} is {value!r}, but must be {what} from {low} to {high}")
    return tuple(map(kind, parts)) if pair else kind(value)


PRESETS: dict[str, dict[str, float]] = {
    "default": {"p_audio": 0.70, "p_visual": 0.90},  # audio is learned first, vision has more to say
    "textbook": {"p_audio": 0.70, "p_visual": 0.80},  # audio-only and visual-only alike, together better
    "p55_90": {"p_audio": 0.55, "p_visual": 0.90},  # the other cells of the phase diagram
    "p70_70": {"p_audio": 0.70, "p_visual": 0.70},
    "p85_90": {"p_audio": 0.85, "p_visual": 0.90},
    "p85_70": {"p_audio": 0.85, "p_visual": 0.70},
    "p70_90": {"p_audio": 0.70, "p_visual": 0.90},  # the first two by their cells' names
    "p70_80": {"p_audio": 0.70, "p_visual": 0.80},
}


def _check_name(name: str, names: list[str], what: str) -> None:
    if name not in names:
        hint = nearest(str(name), names, f"there are {', '.join(names)}")
        raise ValueError(f"synthav: no {what} is called {name!r}{hint}")


# ---- sound: 4096 samples at 8 kHz, seen as 32 mel bands x 32 frames

RATE, SAMPLES, WINDOW, HOP, BANDS, FRAMES = 8000, 4096, 256, 128, 32, 32
PITCH = np.geomspace(250, 900, 8)  # Hz, by class
HARMONICS = np.random.default_rng(12345).uniform(0.2, 1, (8, 4))  # amplitudes, by class
CHIRP = np.array([0, 0.25, -0.25])[np.arange(8) % 3]  # by class
TREMOLO = np.array([0, 4, 8, 12])[np.arange(8) % 4]  # Hz, by class


def _spectrograms(rng: np.random.Generator, label: np.ndarray, cue: np.ndarray, knobs: Knobs) -> np.ndarray:
    """Log-mel spectrograms (n, 1, BANDS, FRAMES) of the classes ``label`` (n,), with a tone where ``cue`` (n,)."""

    def draw(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (len(label), 1))

    t = np.arange(SAMPLES) / RATE
    pitch = PITCH[label, None] * np.exp(rng.normal(0, knobs.pitch_jitter, (len(label), 1)))
    weight = HARMONICS[label] * np.exp(rng.normal(0, 0.4, (len(label), 4)))
    weight = weight * _wave(rng.random((len(label), 4)))
    turn = _wave(pitch * (t + CHIRP[label, None] * t**2))  # harmonic h is its h-th power
    tone = np.zeros_like(turn)
    for w in weight.T[::-1]:
        tone = (tone + w[:, None]) * turn  # Horner: sum over h of w_h turn^h
    tone = tone.imag * (1 + 0.8 * _wave(TREMOLO[label, None] * (t + draw(0, 0.25))).imag)
    tone *= _sigmoid(200 * (t - draw(0, 0.2))) * _sigmoid(-200 * (t - draw(0.35, 0.512)))
    tone *= 10 ** (draw(*knobs.snr_db) / 20) / tone.std(1, keepdims=True)

    colour = (np.arange(SAMPLES // 2 + 1) + 10.0) ** -draw(0, 0.6)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal((len(label), SAMPLES))) * colour, SAMPLES)
    noise /= noise.std(1, keepdims=True)

    loud = (draw(0, 1) < knobs.p_distractor) * 1.4 * 10 ** (draw(-8, 2) / 20)
    distractor = loud * _wave(draw(200, 3500) * t + draw(0, 1)).imag
    return _log_mel((cue[:, None] * tone + noise + distractor) * 10 ** (draw(-6, 6) / 20))


def _wave(turns: np.ndarray) -> np.ndarray:
    """exp(2 pi i turns). The angle is reduced in float64 and then read in float32, which is ten times faster."""
    angle = (2 * np.pi * (turns - np.floor(turns))).astype(np.float32)
    phasor: np.ndarray = np.cos(angle) + 1j * np.sin(angle)
    return phasor


def _log_mel(wave: np.ndarray) -> np.ndarray:
    """(n, SAMPLES) to (n, 1, BANDS, FRAMES): log(power + 0.01) of a centred STFT with a Hann window."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    padded = np.pad(wave, ((0, 0), (WINDOW // 2, WINDOW // 2)), mode="reflect")
    frames = sliding_window_view(padded, WINDOW, axis=1)[:, ::HOP][:, :FRAMES]
    spectrum = np.fft.rfft(frames * hann)
    power = spectrum.real**2 + spectrum.imag**2
    log_mel: np.ndarray = np.log(power @ _mel_filters() + 1e-2)
    return log_mel.swapaxes(1, 2)[:, None]


@functools.cache
def _mel_filters() -> np.ndarray:
    """(WINDOW / 2 + 1, BANDS): triangles, equally wide in mel from STFT bin 2 to 4 kHz, each of sum 1."""
    hertz = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    low, high = 2595 * np.log10(1 + hertz[[2, -1]] / 700)
    edge = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    left, middle, right = edge[:-2], edge[1:-1], edge[2:]
    rise, fall = (hertz[:, None] - left) / (middle - left), (right - hertz[:, None]) / (right - middle)
    triangle = np.maximum(0, np.minimum(rise, fall))
    filters: np.ndarray = triangle / triangle.sum(0)
    return filters


# ---- sight: two RGB frames of 24 x 24, coordinates from -1 to 1, x to the right and y down

SIZE, CLIP = 24, 2


def _plus(x: np.ndarray, y: np.ndarray, reach: float = 0.9) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(x - 0.26, y - reach), np.maximum(y - 0.26, x - reach))


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {  # signed distance to the rim, below 0 inside
    "disk": lambda x, y: np.hypot(x, y) - 0.8,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.68) - 0.22,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.72,
    "diamond": lambda x, y: 0.85 * (np.abs(x) + np.abs(y) - 1),
    "triangle": lambda x, y: np.maximum(y - 0.6, (1.732 * np.abs(x) - y - 1) / 2 - 0.05),
    "plus": _plus,
    "cross": lambda x, y: _plus((x + y) / math.sqrt(2), (y - x) / math.sqrt(2), 0.95),
    "bars": lambda x, y: np.maximum(np.maximum(np.abs(x), np.abs(y)) - 0.85, 0.2 - np.abs((y + 1.2) % 0.8 - 0.4)),
}


def _visual_clips(rng: np.random.Generator, label: np.ndarray, cue: np.ndarray, knobs: Knobs) -> np.ndarray:
    """Clips (n, 3, CLIP, SIZE, SIZE) in [0, 1] of the classes ``label`` (n,), with a shape where ``cue`` (n,)."""

    def draw(low: float, high: float, *shape: int) -> np.ndarray:  # to go with (n, CLIP, SIZE, SIZE)
        return rng.uniform(low, high, (*shape, len(label), 1, 1, 1))

    def paint() -> np.ndarray:  # (n, 3, 1, 1, 1), no channel below 0
        rgb = np.abs(rng.normal(size=(len(label), 3)))
        rgb *= 1.7 * rng.uniform(*knobs.contrast, (len(label), 1)) / np.linalg.norm(rgb, axis=1, keepdims=True)
        return rgb[..., None, None, None]

    y, x = np.meshgrid(*[np.linspace(-1, 1, SIZE)] * 2, indexing="ij")
    image = (
        0.5
        + _smooth(rng.normal(0, 0.06, (len(label), 3, 1, 4, 4)))
        + _smooth(rng.normal(0, 0.03, (len(label), 3, 1, 9, 9)))
    )

    (cx, cy), half, width, angle = draw(-1, 1, 2), draw(0.15, 0.5), draw(0.05, 0.12), draw(0, np.pi)
    along, across = _rotated(x - cx, y - cy, angle)
    stroke = np.hypot(np.maximum(np.abs(along) - half, 0), across) - width
    image = image + (paint() * ((draw(0, 1) < knobs.p_clutter) * _sigmoid(-40 * stroke))[:, None])

    scale, (cx, cy), angle = draw(0.5, 0.7), draw(-0.55, 0.55, 2), np.deg2rad(draw(-10, 10))
    vx, vy = draw(-0.15, 0.15, 2)
    frame = np.arange(CLIP)[:, None, None]
    u, v = _rotated((x - cx - frame * vx) / scale, (y - cy - frame * vy) / scale, angle)
    shape = np.empty_like(u)
    for k, distance in enumerate(SHAPES.values()):
        shape[label == k] = distance(u[label == k], v[label == k])
    image = image + paint() * (cue[:, None, None, None] * _sigmoid(-2 * shape / 0.12))[:, None]

    hidden, upright, middle, width = draw(0, 1) < knobs.p_occluder, draw(0, 1) < 0.5, draw(-0.8, 0.8), draw(0.08, 0.2)
    bar = hidden & (np.abs(np.where(upright, x, y) - middle) < width)
    image = np.where(bar[:, None], draw(0.2, 0.8)[:, None], image)

    gain, offset = draw(0.7, 1.3)[:, None], draw(-0.1, 0.1, 3).swapaxes(0, 1)
    image = (image - 0.5) * gain + 0.5 + offset
    noisy: np.ndarray = np.clip(image + knobs.pixel_noise * rng.standard_normal(image.shape), 0, 1)
    return noisy


def _smooth(grid: np.ndarray) -> np.ndarray:
    """(..., g, g) to (..., SIZE, SIZE), bilinear, corner on corner."""
    cells = grid.shape[-1]
    weight = np.maximum(0, 1 - np.abs(np.linspace(0, cells - 1, SIZE)[:, None] - np.arange(cells)))
    image: np.ndarray = weight @ grid @ weight.T
    return image


def _rotated(x: np.ndarray, y: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The point (x, y) in axes that are turned by ``angle``."""
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    y: np.ndarray = 1 / (1 + np.exp(-x))
    return y


# ---- the dataset


class SynthAV(MultimodalDataset):
    """One split: ``audio`` (1, 32, 32) log-mel and ``visual`` (3, 2, 24, 24) = (channel, time, height, width), float32.

    ``cues`` (N, 2) bool says which samples show the audio and the visual cue. Use ``SynthAV.module`` to make one.
    """

    name = "synthav"
    modalities = ("audio", "visual")
    classes = tuple(SHAPES)
    generated = True
    card = Card(
        title="SynthAV: generated sounds and shapes whose imbalance can be dialled",
        modalities=("audio", "visual"),
        classes=8,
        size="generated, nothing on disk",
        licence="none needed: the samples are drawn from a seed",
        citation="this repository",
        how_to_get="Nothing to get: it is generated in memory when a run asks for it.",
    )
    training_recipe: ClassVar[Mapping[str, Any]] = {**SMALL, "dataset_args": {"preset": "default", "data_seed": 0}}
    adaptive_lr: ClassVar[float] = 1e-3

    def __init__(
        self, split: str, tensors: dict[str, Tensor], label: Tensor, cues: Tensor, recipe: dict[str, Any]
    ) -> None:
        self.tensors, self.label, self.cues, self.recipe = tensors, label, cues, recipe
        self.labels = label.tolist()
        self.ids = [f"{split}-{i}" for i in range(len(label))]
        absent = dict(zip(self.modalities, (~cues).sum(0).tolist(), strict=True))
        self.report = ScanReport(
            len(label),
            len(label),
            {c: self.labels.count(k) for k, c in enumerate(self.classes)},
            {**{f"{m} cue absent": n for m, n in absent.items()}, "no cue at all": int((~cues).all(1).sum())},
        )

    @classmethod
    def module(cls, *, preset: str = "default", data_seed: int = 0, **knobs: Any) -> DataModule:
        """The three splits of a preset, with any of ``Knobs`` turned on top of it.

        One random stream, started by ``data_seed``, draws train, then val, then test. How much it draws depends on the
        sizes alone: other probabilities, ranges or noise leave labels and all other choices as they were (a larger
        p_audio adds tones and removes none), while another num_train gives other val and test samples. Tensors are
        standardised by the training split, whatever the split: audio by one mean and standard deviation, visual by a
        mean per channel and one standard deviation. The last few modules are kept: equal arguments, same object.

        Raises ValueError, in one line, for an unknown preset or knob and for a value that cannot be.
        """
        _check_name(preset, list(PRESETS), "preset")
        for name in knobs:
            _check_name(name, [f.name for f in fields(Knobs)], "knob")
        return _generate(Knobs(**{**PRESETS[preset], **knobs}), _checked("data_seed", data_seed, 0, 0, 2**63 - 1))

    @override
    def load(self, i: int, rng: torch.Generator | None) -> dict[str, Tensor]:
        return {m: x[i] for m, x in self.tensors.items()}

    @override
    def batch(self, keys: Sequence[SampleKey]) -> Batch:
        index = sample_index(keys)
        return Batch({m: x.index_select(0, index) for m, x in self.tensors.items()}, self.label[index], index)


@functools.lru_cache(maxsize=4)  # of about 43 MB at the default sizes; a grid uses each many times in a row
def _generate(knobs: Knobs, data_seed: int) -> DataModule:
    rng = np.random.default_rng(data_seed)
    recipe = {**asdict(knobs), "data_seed": data_seed, "generator": GENERATOR}
    drawn = {
        split: _draw(rng, size, knobs)
        for split, size in (("train", knobs.num_train), ("val", knobs.num_val), ("test", knobs.num_test))
    }
    audio, visual = drawn["train"][2:]
    centre = {"audio": audio.mean(), "visual": visual.mean((0, 2, 3, 4), keepdims=True)}
    spread = {"audio": audio.std(), "visual": (visual - centre["visual"]).std()}
    splits = {}
    for split, (label, cues, *raw) in drawn.items():
        tensors = {
            m: torch.from_numpy(((x - centre[m]) / spread[m]).astype(np.float32))
            for m, x in zip(SynthAV.modalities, raw, strict=True)
        }
        splits[split] = SynthAV(split, tensors, torch.from_numpy(label), torch.from_numpy(cues), recipe)
    return DataModule(**splits)


def _draw(rng: np.random.Generator, size: int, knobs: Knobs) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels (n,), cues (n, 2), sounds (n, 1, 32, 32) and clips (n, 3, 2, 24, 24), not yet standardised."""
    label = rng.permutation(np.arange(size) % len(SHAPES))
    cues = rng.random((size, 2)) < (knobs.p_audio, knobs.p_visual)
    blocks = [slice(start, start + BLOCK) for start in range(0, size, BLOCK)]
    drawn = [
        (_spectrograms(rng, label[b], cues[b, 0], knobs), _visual_clips(rng, label[b], cues[b, 1], knobs))
        for b in blocks
    ]
    audio, visual = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    return label, cues, audio, visual
