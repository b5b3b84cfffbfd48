"""AV-MNIST: pairs of a written digit (MNIST) and the same digit spoken (Free Spoken Digit Dataset), by a fixed rule.

Preset ``avmnist``: the first second at 8 kHz, STFT 256/64 -> audio (1, 129, 126). Preset ``mel32``, for two processor
cores: STFT 256/128 -> 32 mel bands, ln(x + 1e-4) -> (1, 32, 32); its 63 frames are averaged in pairs (the last one
stays alone) rather than cut to 32, because half a second would cut off the slower speakers. Both are standardised with
mean and std of the training clips, rounded to four decimals so that they do not depend on a machine's last bits.
Visual is (1, 28, 28), (x / 255 - 0.1307) / 0.3081. Nothing is augmented: digits are not flipped.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import override

import ogm
from datasets.core.base import DataModule, ScanReport
from datasets.core.card import Card
from datasets.core.errors import DataError
from datasets.core.lazy import torch
from datasets.core.paths import raw_folder
from datasets.core.progress import Progress
from datasets.core.recipes import SMALL
from datasets.core.sample_keys import SampleKey, sample_index
from datasets.decode import audio
from datasets.storage import content
from datasets.storage.cache import Cache, Column, Decoded, RawItem
from datasets.storage.digit_files import SPEAKERS, Clip, download, image_sources, scan_images, scan_recordings
from datasets.storage.prepared import DecodePlan, Options, Prepared
from ogm.seeds import fold_in

RATE, SAMPLES = 8000, 8000
SHAPE = {"avmnist": (129, 126), "mel32": (32, 32)}
# fmt: off
SPECTROGRAM: dict[str, dict[str, Any]] = {
    "avmnist": {"operator": "stft_log", "n_fft": 256, "hop": 64, "window": "hann, periodic",
                "padding": "zeros, centred", "log": "ln(|S| + 1e-7)"},
    "mel32": {"operator": "log_mel", "n_fft": 256, "hop": 128, "window": "hann, periodic",
              "padding": "zeros, centred", "bins": 32,
              "hertz": [62.5, 4000], "log": "ln(P + 1e-4)", "time": "mean of pairs of frames"},
}
# fmt: on
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081
EVAL_K = 10  # images per clip of val and test in speaker_folds: a clip alone is right or wrong, and ties are many
SOURCES = {"train": "train", "val": "train", "test": "t10k"}  # which MNIST file a split takes its images from


class AVMNISTOptions(Options):
    """The arguments of ``avmnist``."""

    preset: Literal["avmnist", "mel32"] = "avmnist"
    k: int = Field(10, ge=1)  # images per spoken clip of train
    eval_k: int | None = Field(None, ge=1)  # of val and test; None: EVAL_K of speaker_folds, else k
    pair_seed: int = 0  # which images a clip is paired with
    split: Literal["takes", "speaker6", "speaker_folds"] = "takes"
    fold: int = Field(0, ge=0, lt=len(SPEAKERS))  # which speaker is the test, where a speaker is
    image_noise: float = Field(0.0, ge=0, strict=False, allow_inf_nan=False)  # std, where black is 0 and white 1
    audio_snr_db: float | None = Field(None, strict=False, allow_inf_nan=False)  # None: no noise
    allow_unpinned: bool = False

    @model_validator(mode="after")
    def _read_all(self) -> Self:
        if self.fold and self.split == "takes":
            raise ValueError("fold belongs to split=speaker_folds and split=speaker6")
        return self

    @property
    def images_per_clip(self) -> dict[str, int]:
        """Split -> with how many images each of its clips is paired."""
        evaluated = self.eval_k or (EVAL_K if self.split == "speaker_folds" else self.k)
        return {"train": self.k, "val": evaluated, "test": evaluated}


@dataclass(frozen=True)
class Pair:
    """A spoken digit and a written one."""

    clip: Clip
    source: str  # "train" or "t10k"
    image: int  # row of that file

    @property
    def id(self) -> str:
        """The name of the sample."""
        return f"{self.clip.stem}+{self.source}{self.image}"


class AVMNIST(Prepared):
    """See the module. Splits: takes 0-4 test, 5-9 val, 10-49 train; or ``speaker_folds``, one speaker left out as test.

    ``speaker_folds`` pairs each clip of val and test with ten images, whatever ``k`` is; ``speaker6`` has the same
    speakers, and k images everywhere.
    """

    name = "avmnist"
    modalities = ("audio", "visual")
    classes = tuple("0123456789")
    static = True
    Options = AVMNISTOptions
    card = Card(
        title="AV-MNIST: a written digit and the same digit spoken",
        modalities=("audio", "visual"),
        classes=10,
        size="33 MB to download, 0.2 GB prepared",
        licence="MNIST: CC BY-SA 3.0 (as commonly redistributed). Free Spoken Digit Dataset: CC BY-SA 4.0. The pairs "
        "are adapted material of both: share alike under CC BY-SA 4.0 and name both",
        citation="LeCun, Cortes, Burges: The MNIST database of handwritten digits (1998). Jackson and others: Free "
        "Spoken Digit Dataset, github.com/Jakobovski/free-spoken-digit-dataset at 26eb9aa",
        how_to_get="`python -m datasets download avmnist` fetches 33 MB: the four MNIST files (CC BY-SA 3.0) into "
        "data/avmnist/mnist/ and the 3,000 recordings of the Free Spoken Digit Dataset (CC BY-SA 4.0) into "
        "data/avmnist/fsdd/recordings/. Files you have already can be put there by hand.",
        quirks=(
            "The literature's AV-MNIST (PCA-reduced images, TIDIGITS) is not distributed; this one is built from "
            "public files by a fixed pairing rule, so its numbers compare only with themselves.",
            "With k = 10 a recording occurs ten times with ten images: there are ten times fewer distinct sounds.",
            "split=takes is not speaker-independent; split=speaker_folds leaves one speaker out as test (fold 0 to 5) "
            "and the next one as validation, and pairs each of their clips with ten images.",
        ),
        raw_files=("mnist", "fsdd/recordings"),
        preparation="4 s of CPU time on one core (measured)",
        run_on_cpu="20 s on one core (measured: median of the committed runs of results/reference/avmnist)",
    )
    training_recipe: ClassVar[Mapping[str, Any]] = {**SMALL, "dataset_args": {"preset": "mel32", "k": 1}}
    adaptive_lr: ClassVar[float] = 1e-3

    def __init__(self, options: AVMNISTOptions, cache: Cache, pairs: Sequence[Pair], mean: float, std: float) -> None:
        self.cache, self.mean, self.std = cache, mean, std
        self.ids = [pair.id for pair in pairs]
        self.labels = [pair.clip.digit for pair in pairs]
        self.label_rows = np.array(self.labels, dtype=np.int64)
        first = {source: cache.rows("visual", source).start for source in ("train", "t10k")}
        self.clip_rows = np.array([cache.rows("audio", pair.clip.stem).start for pair in pairs])
        self.image_rows = np.array([first[pair.source] + pair.image for pair in pairs])
        self.recipe = {
            **cache.manifest["recipe"],
            "source": cache.manifest["source"],
            "k": options.k,
            "pair_seed": options.pair_seed,
            "split": options.split,
            "fold": options.fold,
            "audio_mean": mean,
            "audio_std": std,
        }
        if options.images_per_clip["test"] != options.k:
            self.recipe["eval_k"] = options.images_per_clip["test"]
        notes: Counter[str] = Counter()
        stems = {pair.clip.stem for pair in pairs}
        for stem in stems:
            notes.update(cache.facts[stem])
        per_class = {str(d): self.labels.count(d) for d in range(10)}
        shared = len(stems) if len(stems) < len(pairs) else None
        self.report = ScanReport(len(pairs), len(pairs), per_class, dict(notes), shared)

    def load(self, i: int, rng: torch.Generator | None) -> dict[str, torch.Tensor]:
        """One sample: audio (1, 129, 126) or (1, 32, 32), visual (1, 28, 28)."""
        return {m: x[0] for m, x in self.batch([i]).inputs.items()}

    @override
    def batch(self, keys: Sequence[SampleKey]) -> ogm.Batch:
        index = sample_index(keys).numpy()
        sound = torch.from_numpy(np.asarray(self.cache["audio"][self.clip_rows[index]]))
        image = torch.from_numpy(np.asarray(self.cache["visual"][self.image_rows[index]])).float()
        return ogm.Batch(
            {
                "audio": ((sound - self.mean) / self.std).unsqueeze(1),
                "visual": ((image / 255 - MNIST_MEAN) / MNIST_STD).unsqueeze(1),
            },
            torch.from_numpy(self.label_rows[index]),
            torch.from_numpy(index),
        )

    @classmethod
    @override
    def resplit(cls, args: Mapping[str, Any], number: int) -> dict[str, Any]:
        """One fold after the other, then all of them with the next ``pair_seed``; any other split is one alone."""
        if args.get("split", "speaker_folds") == "takes" or "fold" in args:
            return {}
        chosen = {"split": "speaker_folds", "fold": number % len(SPEAKERS), "pair_seed": number // len(SPEAKERS)}
        return {name: value for name, value in chosen.items() if name not in args}

    # ---- preparing
    @classmethod
    @override
    def download(cls, base: str | None = None, progress: Progress | None = None) -> str:
        download(raw_folder("avmnist"), base, progress)
        return ""

    @classmethod
    @override
    def storage(cls, options: AVMNISTOptions) -> dict[str, Any]:
        return {
            "dataset": "avmnist",
            "version": 1,
            "preset": options.preset,
            "audio": {"rate": RATE, "samples": SAMPLES, **SPECTROGRAM[options.preset]},
            "image_noise": options.image_noise,
            "audio_snr_db": options.audio_snr_db,
            "pinned": not options.allow_unpinned,
            # the published recordings have this rate, and keep the recipe they always had
            **({"resampler": audio.RESAMPLER} if options.allow_unpinned else {}),
        }

    @classmethod
    @override
    def scan(cls, options: AVMNISTOptions) -> DecodePlan:
        folder = raw_folder("avmnist")
        pinned = not options.allow_unpinned
        clips = scan_recordings(folder / "fsdd" / "recordings", pinned)
        images = scan_images(folder / "mnist", pinned)
        float_images = "<f4" if options.image_noise else "|u1"
        columns = {
            "audio": Column("<f4", SHAPE[options.preset], len(clips)),
            "audio_sums": Column("<f8", (2,), len(clips)),
            "visual": Column(float_images, (28, 28), sum(len(labels) for _, labels in images.values())),
            "digit": Column("|u1", (), sum(len(labels) for _, labels in images.values())),
        }

        def decode(item: RawItem) -> Decoded:
            if item.key in images:
                pixels, labels = images[item.key]
                return Decoded({"visual": noisy_images(pixels, item.key, options.image_noise), "digit": labels})
            recording = audio.read_audio(folder / "fsdd" / "recordings" / f"{item.key}.wav")
            x = noisy_second(audio.mono_at(recording, RATE), item.key, options.audio_snr_db)
            picture = spectrogram(x, options.preset).numpy()
            sums = [picture.sum(dtype=np.float64), np.square(picture, dtype=np.float64).sum()]
            return Decoded({"audio": picture[None], "audio_sums": np.array([sums])}, recording.notes)

        digests = {**image_sources(folder / "mnist", pinned), **clips}
        return DecodePlan([RawItem(key, digest) for key, digest in digests.items()], columns, decode)

    @classmethod
    @override
    def sources(cls, options: AVMNISTOptions, keys: Sequence[str]) -> Mapping[str, str]:
        folder = raw_folder("avmnist")
        recordings = {folder / "fsdd" / "recordings" / f"{key}.wav": key for key in keys}
        digests = content.digests(recordings)
        images = image_sources(folder / "mnist", not options.allow_unpinned)
        return {**images, **{recordings[path]: digest for path, digest in digests.items()}}

    @classmethod
    @override
    def split(cls, options: AVMNISTOptions, cache: Cache) -> DataModule:
        clips = [Clip.parse(key) for key in cache.keys if key not in ("train", "t10k")]
        digits = {
            source: cache["digit"][slice(rows.start, rows.stop)]
            for source in ("train", "t10k")
            for rows in [cache.rows("digit", source)]
        }
        parts = split_takes(clips) if options.split == "takes" else split_speakers(clips, options.fold)
        pairs = pair(parts, digits, options.images_per_clip, options.pair_seed)
        rows = [cache.rows("audio_sums", clip.stem).start for clip in parts["train"]]
        total, squares = cache["audio_sums"][rows].sum(0) / (len(rows) * np.prod(SHAPE[options.preset]))
        mean, std = round(float(total), 4), round(float(np.sqrt(squares - total**2)), 4)
        return DataModule(**{name: cls(options, cache, pairs[name], mean, std) for name in pairs})


# ---- who belongs to whom
def split_takes(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """The recordings' own rule: takes 0-4 test. Of the others 5-9 validate. Speakers are in all three."""
    return {
        "train": [c for c in clips if c.take >= 10],
        "val": [c for c in clips if 5 <= c.take < 10],
        "test": [c for c in clips if c.take < 5],
    }


def split_speakers(clips: Sequence[Clip], fold: int) -> dict[str, list[Clip]]:
    """Speaker number ``fold`` (alphabetical) is the test, the next one the validation, the other four train."""
    test, val = SPEAKERS[fold], SPEAKERS[(fold + 1) % len(SPEAKERS)]
    return {
        "train": [c for c in clips if c.speaker not in (test, val)],
        "val": [c for c in clips if c.speaker == val],
        "test": [c for c in clips if c.speaker == test],
    }


def pair(
    parts: Mapping[str, Sequence[Clip]], digits: Mapping[str, np.ndarray], k: Mapping[str, int], seed: int
) -> dict[str, list[Pair]]:
    """Gives every spoken clip k images of its digit, each image once, by sha256 alone: no random library decides.

    The images of a digit are ordered by the sha256 of ``avmnist-v1|seed|source|digit|row``; clip j (by speaker, then
    take) gets the images jk to jk + k - 1 of that order. Validation takes from the end of the order that training takes
    from its start. ``digits[source]`` (n,) are the labels of an MNIST file, ``k[name]`` belongs to a part. Raises
    DataError if images run out.
    """
    pairs: dict[str, list[Pair]] = {}
    for name, clips in parts.items():
        if not clips:
            raise DataError(f"avmnist: no recording belongs to {name}; put the missing ones into recordings/")
        pairs[name] = []
        source, each = SOURCES[name], k[name]
        for digit in range(10):
            order = sorted(
                np.flatnonzero(digits[source] == digit).tolist(),
                key=lambda i: hashlib.sha256(f"avmnist-v1|{seed}|{source}|{digit}|{i}".encode()).hexdigest(),
            )
            mine = sorted((c for c in clips if c.digit == digit), key=lambda c: (c.speaker, c.take))
            needed = sum(k[n] * sum(c.digit == digit for c in cs) for n, cs in parts.items() if SOURCES[n] == source)
            if needed > len(order):
                asked = f"k={each}" if set(k.values()) == {each} else f"k={k['train']} with eval_k={k['test']}"
                raise DataError(
                    f"avmnist: {asked} needs {needed} images of digit {digit} from {source}, there are "
                    f"{len(order)}; make k smaller"
                )
            if name == "val":
                order.reverse()
            pairs[name] += [
                Pair(clip, source, i) for j, clip in enumerate(mine) for i in order[j * each : (j + 1) * each]
            ]
    return pairs


# ---- tensors
def spectrogram(x: torch.Tensor, preset: str) -> torch.Tensor:
    """(8000,) at 8 kHz -> (129, 126) or (32, 32), not yet standardised."""
    if preset == "avmnist":
        return audio.stft_log(x, 256, 64)
    return torch.nn.functional.avg_pool1d(audio.log_mel(x, RATE), 2, ceil_mode=True)


def noisy_second(x: torch.Tensor, stem: str, snr_db: float | None) -> torch.Tensor:
    """(N,) -> (8000,): the first second, with white noise.

    The noise, if any, fills all of it, so that it does not show the duration; its power is measured against the
    recording's own mean power. It is drawn from the name of the clip.
    """
    second = audio.fit(x, SAMPLES)
    if snr_db is None:
        return second
    rng = torch.Generator().manual_seed(fold_in(0, "avmnist", "audio noise", stem))
    return second + torch.randn(SAMPLES, generator=rng) * x.square().mean().sqrt() * 10 ** (-snr_db / 20)


def noisy_images(pixels: np.ndarray, source: str, std: float) -> np.ndarray:
    """(n, 28, 28) bytes, plus noise drawn for each image from its row number. Not clipped: noise stays Gaussian."""
    if not std:
        return pixels
    noise = torch.stack(
        [
            torch.randn(
                28, 28, generator=torch.Generator().manual_seed(fold_in(0, "avmnist", "image noise", source, i))
            )
            for i in range(len(pixels))
        ]
    )
    return pixels + 255 * std * noise.numpy()
