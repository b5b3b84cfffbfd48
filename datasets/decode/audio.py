"""Sound: reading recordings that may be damaged, and the operators that turn waveforms into spectrograms.

Waveforms are float32 (channels, samples) in [-1, 1] until ``mono`` makes them (samples,). Logarithms are natural.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import soundfile

from datasets.core.checks import refuse_pointer
from datasets.core.errors import AudioDecodeError, EmptyMediaError, NoAudioTrackError
from datasets.core.lazy import torch
from datasets.decode.video import open_container

MIN_SECONDS = 0.1  # what must be left of a recording that was cut off
BLOCK = 1 << 22  # numbers read at once
CHANNELS = 8  # PyAV reads beyond a frame that has more (a damaged header)
BAD_VALUES = 0.01  # the share of NaN or infinite samples that makes a recording unusable
RATES = 8_000, 192_000  # Hz that a recording may have
FILTER = 1 << 22  # numbers a resampling filter may have: 16 MB; 1 Hz too much, as in 44,101 Hz, would make it 4 GB
# The filter of soxr's quality HQ, librosa's default since 0.10, found by fitting a Kaiser window to its measured
# response. Log spectra of noise and speech agree within 0.01 up to 7.5 kHz of 8, and within 0.3 above.
WIDTH, ROLLOFF, BETA = 96, 0.9568, 13.28
RESAMPLER = f"torchaudio sinc_interp_kaiser, width {WIDTH}, rolloff {ROLLOFF}, beta {BETA}"


@dataclass(frozen=True)
class Recording:
    """``samples`` float32 (channels, N) at ``rate`` Hz, from ``path``; ``notes`` counts what was odd."""

    path: Path
    samples: torch.Tensor
    rate: int
    notes: Counter[str] = field(default_factory=Counter)


def read_audio(path: Path) -> Recording:
    """A wav, flac or ogg file as it is. Integer samples are divided by 2^(bits - 1).

    A file that ends before its header says gives what is there and the note ``audio_truncated``; NaN and infinities
    become 0 and are noted as ``audio_not_finite``; digital silence is noted as ``silent``.

    Raises:
        AudioDecodeError: Nothing can be read, more than 1 % is not finite, or the rate is below 8 or above 192 kHz.
        EmptyMediaError: No sample is left, or less than 0.1 s of a file that was cut off.
    """
    refuse_pointer(path, AudioDecodeError)
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate = file.samplerate
            blocks = [np.zeros((0, file.channels), np.float32)]
            while not blocks[1:] or len(blocks[-1]):  # not at once: a damaged header may promise any length
                blocks.append(file.read(BLOCK // file.channels + 1, dtype="float32", always_2d=True))
            samples = torch.from_numpy(np.concatenate(blocks).T.copy())
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioDecodeError(f"{path}: not a recording that can be read ({error}); get the file again") from error
    notes: Counter[str] = Counter()
    length = samples.shape[1]
    if promised_bytes(path) > path.stat().st_size:
        notes["audio_truncated"] = 1
        if length < MIN_SECONDS * rate:
            raise EmptyMediaError(
                f"{path}: cut off after {length / rate:.3f} s, less than {MIN_SECONDS} s is left; get the file again"
            )
    return _checked(path, samples, rate, notes)


def read_track(path: Path) -> Recording:
    """The sound of a video, or of a recording that is compressed (mp3, m4a, opus): its first audio stream, as it is.

    Conditions, notes and errors are those of ``read_audio``.

    Raises:
        NoAudioTrackError: There is no sound in it.
    """
    with open_container(path, AudioDecodeError) as container:
        if not container.streams.audio:
            raise NoAudioTrackError(f"{path}: there is no sound in it; get the file again, or another copy of it")
        stream = container.streams.audio[0]
        if stream.codec_context is None or not stream.rate:
            raise AudioDecodeError(f"{path}: its sound has no known codec or no rate; get the file again")
        rate, blocks, notes = stream.rate, [], Counter[str]()
        plain = av.AudioResampler(format="fltp")  # changes the sample format alone
        packets, broken = container.demux(stream), False
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                for frame in packet.decode():
                    if frame.layout.nb_channels > CHANNELS:
                        raise ValueError("more channels than a frame can be asked for")
                    blocks += [one.to_ndarray() for one in plain.resample(frame)]
            except (av.error.FFmpegError, ValueError):  # a demuxer that failed has no next packet
                broken = True  # ValueError: damage changed the channels in the middle
        promised = (container.duration or 0) / 1e6
        if stream.duration and stream.time_base:
            promised = float(stream.duration * stream.time_base)
    samples = torch.from_numpy(np.concatenate(blocks, 1) if blocks else np.zeros((1, 0), np.float32))
    if broken or samples.shape[1] < 0.9 * promised * rate:
        notes["audio_truncated"] = 1
        if samples.shape[1] < MIN_SECONDS * rate:
            raise EmptyMediaError(f"{path}: less than {MIN_SECONDS} s of its sound can be read; get the file again")
    return _checked(path, samples, rate, notes)


def _checked(path: Path, samples: torch.Tensor, rate: int, notes: Counter[str]) -> Recording:
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioDecodeError(
            f"{path}: a rate of {rate} Hz, not between {RATES[0]} and {RATES[1]}; get the file again, or convert it "
            f"first: {_conversion(path, 16_000)}"
        )
    if not samples.shape[1]:
        raise EmptyMediaError(f"{path}: a recording without samples; get the file again")
    bad = int((~samples.isfinite()).sum())
    if bad:
        if bad > BAD_VALUES * samples.numel():
            raise AudioDecodeError(f"{path}: {bad} of {samples.numel()} samples are not finite; get the file again")
        notes["audio_not_finite"] = bad
        samples = samples.nan_to_num(0.0, 0.0, 0.0)
    if not samples.any():
        notes["silent"] = 1
    return Recording(path, samples, rate, notes)


def _conversion(path: Path, rate: int) -> str:
    return f"`ffmpeg -i {shlex.quote(path.name)} -ar {rate} NEW.wav`"


def promised_bytes(path: Path) -> int:
    """How long a RIFF file must be to hold the samples its header announces. 0: not RIFF, or no data chunk."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return 0
        while len(chunk := file.read(8)) == 8:
            size = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                return file.tell() + size
            file.seek(size + size % 2, 1)
    return 0


# ---- waveforms
def mono(samples: torch.Tensor) -> torch.Tensor:
    """(channels, N) -> (N,): the mean over channels."""
    return samples.mean(0)


def mono_at(recording: Recording, rate: int) -> torch.Tensor:
    """The mean over channels, at another rate.

    Args:
        recording: What a file holds.
        rate: The rate to bring it to, in Hz.

    Returns:
        (N,) float32.

    Raises:
        AudioDecodeError: The recording's own rate has so little in common with ``rate`` that the filter between them
            would fill the memory.
    """
    if filter_size(recording.rate, rate) > FILTER:
        raise AudioDecodeError(
            f"{recording.path}: a rate of {recording.rate} Hz is too odd to be brought to {rate} Hz here; convert it "
            f"first: {_conversion(recording.path, rate)}"
        )
    return resample(mono(recording.samples), recording.rate, rate)


def resample(x: torch.Tensor, rate: int, target: int) -> torch.Tensor:
    """(..., N) at ``rate`` -> (..., ceil(N target / rate)) at ``target`` Hz, with the filter of librosa's default."""
    return x if rate == target else _resampler(rate, target)(x)


def filter_size(rate: int, target: int) -> int:
    """How many numbers torchaudio's filter between two rates has: a row for each sample of the period they share."""
    old, new = rate // math.gcd(rate, target), target // math.gcd(rate, target)
    width = math.ceil(WIDTH * old / (min(old, new) * ROLLOFF))
    return new * (2 * width + old)


@lru_cache(8)
def _resampler(rate: int, target: int) -> torch.nn.Module:
    from torchaudio.transforms import Resample

    exact = Resample(rate, target, "sinc_interp_kaiser", WIDTH, ROLLOFF, BETA, dtype=torch.float64)
    resampler: torch.nn.Module = exact.float()  # a filter made in float32 adds noise where a spectrum is all but silent
    return resampler


def tile(x: torch.Tensor, length: int) -> torch.Tensor:
    """(N,) -> (length,): the whole signal again and again, then cut.

    Raises:
        EmptyMediaError: N is 0.
    """
    if not len(x):
        raise EmptyMediaError("a signal without samples cannot be repeated")
    return x.repeat(math.ceil(length / len(x)))[:length]


def fit(x: torch.Tensor, length: int) -> torch.Tensor:
    """(N,) -> (length,): cut, or zeros appended."""
    return torch.nn.functional.pad(x[:length], (0, max(length - len(x), 0)))


# ---- spectrograms
def _stft(x: torch.Tensor, n_fft: int, hop: int) -> torch.Tensor:
    """(N,) -> |S| (n_fft/2 + 1, 1 + N // hop): periodic Hann, centred, n_fft/2 *zeros* on both sides."""
    window = torch.hann_window(n_fft, dtype=x.dtype)
    return torch.stft(x, n_fft, hop, window=window, center=True, pad_mode="constant", return_complex=True).abs()


def stft_log(x: torch.Tensor, n_fft: int, hop: int) -> torch.Tensor:
    """(N,) -> ln(|S| + 1e-7) (n_fft/2 + 1, 1 + N // hop). Silence gives -16.118."""
    return (_stft(x, n_fft, hop) + 1e-7).log()


def psd_log(x: torch.Tensor, rate: int, n_fft: int = 512, hop: int = 159) -> torch.Tensor:
    """(N,) -> standardised log power density (n_fft/2 + 1, (N - n_fft) // hop + 1).

    Each segment loses its own mean and is weighed by a periodic Tukey window (alpha 0.25), not padded; one-sided
    density |S|^2 / (rate sum w^2), doubled except at the two ends; ln(P + 1e-7); then (x - mean) / (std + 1e-9) over
    the clip, with the population's std. Equals scipy.signal.spectrogram's density with its default window.
    """
    window = torch.from_numpy(_tukey(n_fft)).to(x.dtype)
    segments = x.unfold(0, n_fft, hop)
    segments = (segments - segments.mean(1, keepdim=True)) * window
    power = torch.fft.rfft(segments).abs().square().T / (rate * window.square().sum())
    power[1:-1] *= 2
    log = (power + 1e-7).log().double()  # or rounding would be all there is to standardise in silence
    standardised: torch.Tensor = (log - log.mean()) / (log.std(correction=0) + 1e-9)
    return standardised.to(x.dtype)


@lru_cache
def _tukey(length: int) -> np.ndarray:
    from scipy.signal import get_window

    window: np.ndarray = get_window(("tukey", 0.25), length)
    return window


def kaldi_fbank(samples: torch.Tensor, rate: int, frames: int = 1024) -> torch.Tensor:
    """(channels, N) at its own rate -> (frames, 128) normalised log mel energies, transposed: (time, mel).

    As BalanceBenchmark computes them: the mean over all channels is removed, then only channel 0 is used; 25 ms
    symmetric Hann windows every 10 ms, pre-emphasis 0.97, no dither, 128 mel bins from 20 Hz. Cut or padded in the log
    domain *with zeros* to ``frames``, then (x + 4.503877) / (2 * 5.141276): the padding (+0.438) is louder than
    silence (-1.112). Raises EmptyMediaError for less than one window.
    """
    from torchaudio.compliance.kaldi import fbank

    if samples.shape[1] < int(0.025 * rate):
        raise EmptyMediaError(f"{samples.shape[1]} samples are less than one window of 25 ms")
    banks = fbank(
        (samples - samples.mean())[:1],
        sample_frequency=float(rate),
        htk_compat=True,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10.0,
    )
    banks = torch.nn.functional.pad(banks[:frames], (0, 0, 0, max(frames - len(banks), 0)))
    return (banks + 4.503877) / (2 * 5.141276)


def log_mel(x: torch.Tensor, rate: int, n_fft: int = 256, hop: int = 128, bins: int = 32) -> torch.Tensor:
    """(N,) -> ln(M |S|^2 + 1e-4) (bins, 1 + N // hop); the filters M each sum to 1, from STFT bin 2 to rate / 2."""
    return (_mel_filters(rate, n_fft, bins).to(x.dtype) @ _stft(x, n_fft, hop).square() + 1e-4).log()


@lru_cache
def _mel_filters(rate: int, n_fft: int, bins: int) -> torch.Tensor:
    """(bins, n_fft/2 + 1): triangles whose corners are evenly spaced in mel, 2595 log10(1 + f / 700)."""
    mel = torch.linspace(
        2595 * math.log10(1 + 2 * rate / n_fft / 700),
        2595 * math.log10(1 + rate / 2 / 700),
        bins + 2,
        dtype=torch.float64,
    )
    corner = 700 * (10 ** (mel / 2595) - 1)
    hertz = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * rate / n_fft
    low, centre, high = corner[:-2, None], corner[1:-1, None], corner[2:, None]
    filters = torch.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)).clamp(min=0)
    return filters / filters.sum(1, keepdim=True)
