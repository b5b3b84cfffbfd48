"""What loading costs: prepared memory maps against wav and JPEG files read per sample, as released code does it.

Both sides get the same clips, on one core, in turns, and must give the same numbers (pictures: up to a grey level). The
files side is the OGM-GE repository's dataset class in other words: for each sample decode the wav, resample, repeat,
clip, transform; open each JPEG, crop, flip, normalise; then stack. It uses librosa where that is installed, else
soundfile, torchaudio and torch's STFT, which are no slower. The prepared side is the dataset ``crema_d`` itself on a
cache of its own.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision import transforms

from datasets.crema_d import HEIGHT, WIDTH, CremaD
from datasets.decode import audio, image_files, image_transforms
from datasets.storage.build import build
from datasets.storage.cache import Cache, Column, Decoded, RawItem
from ogm.seeds import fold_in
from ogm.types import Batch

CLIPS = 7442  # of CREMA-D
DISTINCT = 512  # of them are generated; the others are these again, or an epoch would need 12 GB of disk
FRAMES = 3  # per clip
RATE, SAMPLES = 16_000, 40_000
BATCH, ROUNDS = 64, 3
AIMS = {"gathered": 20.0, "parity": 5.0}  # times the files' samples per second
LIBROSA = importlib.util.find_spec("librosa") is not None


def write_files(folder: Path, clips: int) -> None:
    """``clips`` recordings of 2.5 s, and three frames of each as JPEG, of moving noise: about 0.15 MB a clip."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (clips, 46, 61, 3), dtype=np.uint8)
    for i in range(clips):
        sound = rng.normal(0, 0.1, SAMPLES) * np.hanning(SAMPLES)
        soundfile.write(folder / f"{i}.wav", sound, RATE, subtype="PCM_16")
        for t in range(FRAMES):
            Image.fromarray(coarse[i, t : t + 45, :60]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(
                folder / f"{i}_{t}.jpg", quality=image_files.QUALITY
            )


def prepare(folder: Path, clips: int) -> Cache:
    """The same files, decoded once, in CREMA-D's columns."""
    columns = {
        "audio": Column("<f4", (257, 188), clips),
        "frames": Column("|u1", (HEIGHT, WIDTH, 3), clips * FRAMES),
    }

    def decode(piece: RawItem) -> Decoded:
        frames = [_jpeg(folder / f"{piece.key}_{t}.jpg") for t in range(FRAMES)]
        sound = spectrogram(folder / f"{piece.key}.wav").numpy()
        return Decoded({"audio": sound[None], "frames": np.stack(frames)}, {"notes": {}, "digests": {}})

    return build(folder / "prepared", {}, [RawItem(str(i), "") for i in range(clips)], columns, decode)


def _jpeg(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def spectrogram(path: Path) -> Tensor:
    """(257, 188), as the preset ``paper`` has it, from a wav file."""
    if LIBROSA:
        import librosa

        x, _ = librosa.load(path, sr=22_050)
        x = np.clip(np.tile(x, 3)[:66_150], -1.0, 1.0)
        return torch.from_numpy(np.log(np.abs(librosa.stft(x, n_fft=512, hop_length=353)) + 1e-7))
    samples, rate = soundfile.read(path, dtype="float32")
    x = audio.tile(audio.resample(torch.from_numpy(samples), rate, 22_050), 66_150)
    return audio.stft_log(x.clamp(-1, 1), 512, 353)


def dataset(cache: Cache, clips: int, frames: int, augment: str = "batched") -> CremaD:
    """``clips`` samples of a cache, which may be more than there are in it, each seeing ``frames`` frames."""
    rows = [(str(i % len(cache.keys)), i % 6) for i in range(clips)]
    made = CremaD(CremaD.options({"augment": augment}), cache, rows, clips, Counter())
    made.picks = frames
    return made


class Files:
    """The same samples from their files, one by one.

    Args:
        folder: Where the files are.
        like: The dataset whose samples they are.
    """

    def __init__(self, folder: Path, like: CremaD) -> None:
        self.folder, self.like = folder, like
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(like.size),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(image_transforms.MEAN, image_transforms.STD),
            ]
        )

    def batch(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """Samples by their number and seed, as ``CremaD.batch`` gives them."""
        draws = self.like.draws([seed for _, seed in keys])
        index = torch.tensor([i for i, _ in keys])
        chosen = self.like.preset.pick(torch.from_numpy(self.like.count)[index], self.like.picks, draws[..., 0])
        items = [self.sample(i, seed, c) for (i, seed), c in zip(keys, chosen.tolist(), strict=True)]
        inputs = {m: torch.stack([item[m] for item in items]) for m in ("audio", "visual")}
        return Batch(inputs, torch.tensor([i % 6 for i, _ in keys]), index)

    def sample(self, i: int, seed: int, chosen: Sequence[int]) -> dict[str, Tensor]:
        """Sample ``i``: its spectrogram (1, F, T), and the ``chosen`` ones of its frames (3, T, H, W)."""
        torch.manual_seed(fold_in(seed, "parity"))
        name = self.like.ids[i]
        frames = []
        for t in chosen:
            with Image.open(self.folder / f"{name}_{t}.jpg") as picture:
                frames.append(self.transform(picture.convert("RGB")))
        return {"audio": spectrogram(self.folder / f"{name}.wav").unsqueeze(0), "visual": torch.stack(frames, 1)}


def epoch_keys(clips: int, size: int = BATCH) -> list[list[tuple[int, int]]]:
    """The batches of a shuffled epoch: of each sample its number and its seed."""
    order = torch.randperm(clips, generator=torch.Generator().manual_seed(0)).tolist()
    return [[(i, fold_in(0, "augment", 0, i)) for i in order[k : k + size]] for k in range(0, clips, size)]


def measure(folder: Path, cache: Cache, clips: int, frames: int) -> dict[str, float]:
    """Samples per second of processor time of ``files``, and of three ways to feed the same samples from the cache.

    ``gathered``: as they go to a device that augments; ``parity``: cropped and mirrored one by one;
    ``batched``: the device's augmentation, done by this processor. Medians over rounds in which all take turns; the
    files and the augmentations see a part of the epoch. Processor time, so that other jobs count for nothing. Raises
    ValueError if two sides differ.
    """
    plain, exact = dataset(cache, clips, frames), dataset(cache, clips, frames, "parity")
    files = Files(folder, exact)
    keys = epoch_keys(clips)
    same(files.batch(keys[0][:16]), exact.batch(keys[0][:16]))

    def augmented(part: Sequence[tuple[int, int]]) -> Batch:
        return plain.augment(plain.batch(part), [seed for _, seed in part])

    ways: dict[str, tuple[Callable[[Any], Batch], int]] = {
        "files": (files.batch, 2), "gathered": (plain.batch, max(len(keys), 32)), "parity": (exact.batch, 4),
        "batched": (augmented, 4),
    }  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS):
        for name, (way, batches) in ways.items():
            start = turn * batches % len(keys)
            parts = (keys * (1 + -(-batches // len(keys))))[start : start + batches]
            began = time.process_time()
            for part in parts:
                way(part)
            rates[name].append(sum(map(len, parts)) / (time.process_time() - began))
    return {name: statistics.median(rate) for name, rate in rates.items()}


def same(files: Batch, cached: Batch) -> None:
    """Raises ValueError unless both sides made the same samples.

    Sounds have equal bits, but for what librosa rounds otherwise; pictures are equal within a grey level, but for less
    than one value in 100,000 (``image_transforms.parity``).
    """
    a, b = files.inputs["audio"], cached.inputs["audio"]
    if not torch.equal(a, b) and not (LIBROSA and torch.allclose(a, b, atol=0.05)):
        raise ValueError("the two sides of the data bench made different audio")
    std = torch.tensor(image_transforms.STD).view(3, 1, 1, 1)
    levels = 255 * std * (files.inputs["visual"] - cached.inputs["visual"]).abs()
    if (levels > 1.5).double().mean() > 1e-5:
        raise ValueError("the two sides of the data bench made different visual")


def peak_memory(folder: Path, clips: int) -> int:
    """Bytes of its own memory (mapped files, which the system may take back, left out) that a pass over all adds."""
    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        return fresh.apply(_growth, (folder, clips))


def _growth(folder: Path, clips: int) -> int:
    torch.set_num_threads(1)
    data = dataset(Cache(folder / "prepared"), clips, FRAMES)
    keys = epoch_keys(clips)
    data.batch(keys[0])
    before = peak = _own()
    for part in keys:
        batch = data.batch(part)
        peak = max(peak, _own())
        del batch
    return peak - before


def _own() -> int:
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon")]
    return 1024 * int(line.split()[1])


def bench_data(clips: int = CLIPS) -> None:
    """Generate into a temporary folder, measure and print."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    console = Console(width=110)
    distinct = min(clips, DISTINCT)
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_files(folder, distinct)
            cache = prepare(folder, distinct)
            reader = "librosa" if LIBROSA else "soundfile + torchaudio + torch.stft (librosa is not installed)"
            table = Table(
                title=f"An epoch of {clips} clips ({distinct} distinct), one core, samples a second; {reader}"
            )
            for title in (
                "frames",
                "files",
                "gathered",
                "x files",
                "parity",
                "x files",
                "batched on the CPU",
                "x files",
            ):
                table.add_column(title, justify="right")
            for frames in (1, 3):
                rate = measure(folder, cache, clips, frames)
                cells = [str(frames), f"{rate['files']:.0f}"]
                for way in ("gathered", "parity", "batched"):
                    cells += [f"{rate[way]:.0f}", f"{rate[way] / rate['files']:.1f}"]
                table.add_row(*cells)
            console.print(table)
            console.print(f"aims: gathered >= {AIMS['gathered']:g} x, parity >= {AIMS['parity']:g} x")
            few, many = (peak_memory(folder, n) for n in (clips // 4 or 1, clips))
            console.print(
                f"own memory a pass adds, in a fresh process: {few / 2**20:.0f} MiB for {clips // 4 or 1} clips, "
                f"{many / 2**20:.0f} MiB for {clips}"
            )
    finally:
        torch.set_num_threads(threads)
