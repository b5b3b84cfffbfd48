"""SynthAV: sounds and moving shapes drawn from a seed, where we know which modality carries the label.

Eight classes, each a coloured shape on a noisy background and a harmonic tone in noise. In each sample each modality
shows its cue with a probability of its own (``p_audio``, ``p_visual``), independently of the other and of the label. An
absent cue is not rendered: only the background is left. The sound is nearly linear in the mel bins and quickly learned;
the shape takes trained, translation-tolerant filters. That is the imbalance, and ``cues`` is its ground truth: a
perfect reader of cues that guesses otherwise reaches p + (1 - p) / 8 with one modality.
There each cue alone identifies the class. The presets ``additive``, ``complementary``, ``synergy`` and ``redundant``
always show both cues, but not always the class's own (``datasets.core.regimes``); ``datasets info`` prints both.

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
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from typing_extensions import override

import ogm
from datasets.core.base import DataModule, MultimodalDataset, ScanReport
from datasets.core.card import Card
from datasets.core.lazy import torch
from datasets.core.recipes import SMALL
from datasets.core.regimes import REGIMES, describe, presence
from datasets.core.sample_keys import SampleKey, sample_index
from ogm.registry import nearest

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

IN_REGIMES: dict[str, Any] = {"p_audio": 1.0, "p_visual": 1.0, "snr_db": (-15.0, 5.0)}


def _knobs(preset: str, chosen: Mapping[str, Any]) -> Knobs:
    """The knobs of a preset, with those that are ``chosen``. Raises ValueError for what does not exist or cannot be."""
    _check_name(preset, [*PRESETS, *REGIMES], "preset")
    for name in chosen:
        _check_name(name, [f.name for f in fields(Knobs)], "knob")
    if preset not in REGIMES:
        return Knobs(**{**PRESETS[preset], **chosen})
    if fixed := {"p_audio", "p_visual"} & set(chosen):
        raise ValueError(f"synthav: preset {preset} always shows both cues, so {min(fixed)} cannot be chosen with it")
    return Knobs(**{**IN_REGIMES, **chosen})


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


def _spectrograms(
    rng: np.random.Generator, label: np.ndarray, cue: np.ndarray, strength: np.ndarray | None, knobs: Knobs
) -> np.ndarray:
    """Log-mel spectrograms (n, 1, BANDS, FRAMES): tones of the classes ``label`` (n,) where ``cue`` (n,) is true.

    ``strength`` (n,) is where in ``snr_db`` a tone's loudness lies, 0 to 1; None: it is drawn here.
    """

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
    tone *= 10 ** (_level(rng, knobs.snr_db, strength, len(label)) / 20) / tone.std(1, keepdims=True)

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


def _visual_clips(
    rng: np.random.Generator, label: np.ndarray, cue: np.ndarray, strength: np.ndarray | None, knobs: Knobs
) -> np.ndarray:
    """Clips (n, 3, CLIP, SIZE, SIZE) in [0, 1]: shapes of the classes ``label`` (n,) where ``cue`` (n,) is true.

    ``strength`` (n,) is where in ``contrast`` a shape's colour lies, 0 to 1; None: it is drawn here.
    """

    def draw(low: float, high: float, *shape: int) -> np.ndarray:  # to go with (n, CLIP, SIZE, SIZE)
        return rng.uniform(low, high, (*shape, len(label), 1, 1, 1))

    def paint(strength: np.ndarray | None = None) -> np.ndarray:  # (n, 3, 1, 1, 1), no channel below 0
        rgb = np.abs(rng.normal(size=(len(label), 3)))
        contrast = _level(rng, knobs.contrast, strength, len(label))
        rgb *= 1.7 * contrast / np.linalg.norm(rgb, axis=1, keepdims=True)
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
    image = image + paint(strength) * (cue[:, None, None, None] * _sigmoid(-2 * shape / 0.12))[:, None]

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


def _level(rng: np.random.Generator, span: tuple[float, float], strength: np.ndarray | None, n: int) -> np.ndarray:
    """(n, 1) numbers of a range: where ``strength`` (n,) puts them, 0 its lower end and 1 its upper, or drawn."""
    low, high = span
    return rng.uniform(low, high, (n, 1)) if strength is None else low + (high - low) * strength[:, None]


# ---- the dataset


class SynthAV(MultimodalDataset):
    """One split: ``audio`` (1, 32, 32) log-mel and ``visual`` (3, 2, 24, 24) = (channel, time, height, width), float32.

    ``cues`` (N, 2) bool says which samples show the audio and the visual cue, ``shown`` (N, 2) of which class, and
    ``strength`` (N, 2) how strong, from 0 to 1, or None where no regime sets it. Use ``SynthAV.module`` to make one.
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
        preparation="none; drawing it takes 1 s of each run (measured, on one core)",
        run_on_cpu="14 s on one core (measured: median of the committed runs of results/reference/synthav)",
    )
    training_recipe: ClassVar[Mapping[str, Any]] = {**SMALL, "dataset_args": {"preset": "default", "data_seed": 0}}
    adaptive_lr: ClassVar[float] = 1e-3

    def __init__(self, split: str, tensors: dict[str, torch.Tensor], drawn: _Drawn, recipe: dict[str, Any]) -> None:
        self.tensors, self.recipe = tensors, recipe
        self.label, self.cues, self.shown = map(torch.from_numpy, (drawn.label, drawn.cues, drawn.shown))
        self.strength = None if drawn.strength is None else torch.from_numpy(drawn.strength)
        self.labels = self.label.tolist()
        self.ids = [f"{split}-{i}" for i in range(len(self.labels))]
        if drawn.strength is None:
            notes = {f"{m} cue absent": int(n) for m, n in zip(self.modalities, (~self.cues).sum(0), strict=True)}
            notes["no cue at all"] = int((~self.cues).all(1).sum())
        else:
            other = (self.shown != self.label[:, None]).sum(0)
            notes = {f"{m} cue of another class": int(n) for m, n in zip(self.modalities, other, strict=True)}
        per_class = {c: self.labels.count(k) for k, c in enumerate(self.classes)}
        self.report = ScanReport(len(self.labels), len(self.labels), per_class, notes)

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
        seed = _checked("data_seed", data_seed, 0, 0, 2**63 - 1)
        return _generate(_knobs(preset, knobs), seed, preset if preset in REGIMES else None)

    @classmethod
    def describe_information(cls, *, preset: str = "default", data_seed: int = 0, **knobs: Any) -> list[str]:
        """What the cues of a preset tell about the class, in lines of text; arguments and errors as of ``module``."""
        set_to = _knobs(preset, knobs)
        return describe(REGIMES[preset].joint() if preset in REGIMES else presence(set_to.p_audio, set_to.p_visual))

    @override
    def load(self, i: int, rng: torch.Generator | None) -> dict[str, torch.Tensor]:
        return {m: x[i] for m, x in self.tensors.items()}

    @override
    def batch(self, keys: Sequence[SampleKey]) -> ogm.Batch:
        index = sample_index(keys)
        return ogm.Batch({m: x.index_select(0, index) for m, x in self.tensors.items()}, self.label[index], index)


@dataclass(frozen=True)
class _Drawn:
    """A split before it is standardised. ``cues``, ``shown``, ``strength`` (n, 2): see ``SynthAV``."""

    label: np.ndarray  # (n,)
    cues: np.ndarray
    shown: np.ndarray
    strength: np.ndarray | None
    audio: np.ndarray  # (n, 1, 32, 32)
    visual: np.ndarray  # (n, 3, 2, 24, 24)


@functools.lru_cache(maxsize=4)  # of about 43 MB at the default sizes; a grid uses each many times in a row
def _generate(knobs: Knobs, data_seed: int, regime: str | None) -> DataModule:
    rng = np.random.default_rng(data_seed)
    recipe = {**asdict(knobs), "data_seed": data_seed, "generator": GENERATOR}
    if regime:
        recipe |= {"regime": regime, "error": REGIMES[regime].error}
    drawn = {split: _draw(rng, getattr(knobs, f"num_{split}"), knobs, regime) for split in ("train", "val", "test")}
    audio, visual = drawn["train"].audio, drawn["train"].visual
    centre = {"audio": audio.mean(), "visual": visual.mean((0, 2, 3, 4), keepdims=True)}
    spread = {"audio": audio.std(), "visual": (visual - centre["visual"]).std()}
    splits = {}
    for split, one in drawn.items():
        tensors = {
            m: torch.from_numpy(((x - centre[m]) / spread[m]).astype(np.float32))
            for m, x in zip(SynthAV.modalities, (one.audio, one.visual), strict=True)
        }
        splits[split] = SynthAV(split, tensors, one, recipe)
    return DataModule(**splits)


def _draw(rng: np.random.Generator, size: int, knobs: Knobs, regime: str | None) -> _Drawn:
    label = rng.permutation(np.arange(size) % len(SHAPES))
    cues = rng.random((size, 2)) < (knobs.p_audio, knobs.p_visual)
    shown, strength = REGIMES[regime].draw(rng, label) if regime else (np.stack([label, label], axis=1), None)
    audio, visual = [], []
    for start in range(0, size, BLOCK):
        b = slice(start, start + BLOCK)
        tone, shape = (None, None) if strength is None else strength[b].T
        audio.append(_spectrograms(rng, shown[b, 0], cues[b, 0], tone, knobs))
        visual.append(_visual_clips(rng, shown[b, 1], cues[b, 1], shape, knobs))
    return _Drawn(label, cues, shown, strength, np.concatenate(audio), np.concatenate(visual))
