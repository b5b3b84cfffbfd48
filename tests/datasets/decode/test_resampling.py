"""The resampler: librosa's default, whatever the rate, and no rate that would fill the memory."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.core.errors import AudioDecodeError
from datasets.crema_d import PAPER
from datasets.decode import audio
from datasets.manifest import Manifest
from datasets.storage.clip_files import PSD, read_sound
from tests.helpers import resampling
from tests.helpers.media import tone, write_wav
from tests.helpers.shared_media import shared

STORED = json.loads(resampling.STORED.read_text())
USUAL = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 37_800, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000)


def agrees(ours: torch.Tensor, theirs: np.ndarray, rate: int, target: int) -> None:
    """Per frequency, the mean over time: within 0.05 below 7.5 kHz of every 8 that both rates hold, and 0.5 above."""
    off = np.abs(ours.mean(1).numpy() - theirs)
    low = np.arange(257) * target / 512 < 7.5 / 8 * min(rate, target) / 2
    assert off[low].max() < 0.05 and off[~low].max() < 0.5, (off[low].max(), off[~low].max())


@pytest.mark.parametrize(("rate", "target"), resampling.PAIRS)
def test_it_is_librosas_default_by_stored_numbers(rate: int, target: int) -> None:
    """tests/helpers/resampling.py made them. Hann windows of width 6 were up to 9.2 off, above 8.2 kHz."""
    ours = audio.resample(torch.from_numpy(resampling.noise(rate)), rate, target)
    agrees(audio.stft_log(ours, 512, 353), np.array(STORED[f"{rate} to {target}"]), rate, target)


@pytest.mark.parametrize(("rate", "target"), resampling.PAIRS)
def test_it_is_librosas_default_by_librosa(rate: int, target: int) -> None:
    pytest.importorskip("librosa", reason="needs librosa (and soxr) beside the requirements")
    x = resampling.noise(rate)
    theirs = resampling.theirs(x, rate, target)
    np.testing.assert_allclose(theirs, STORED[f"{rate} to {target}"], atol=1e-3)
    agrees(audio.stft_log(audio.resample(torch.from_numpy(x), rate, target), 512, 353), theirs, rate, target)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what librosa imports
@pytest.mark.parametrize("clip", ["1001_DFA_ANG_XX", "1001_DFA_HAP_XX"])
def test_a_recording_of_crema_d_becomes_what_the_released_code_makes_of_it(clip: str, tmp_path: Path) -> None:
    librosa = pytest.importorskip("librosa", reason="needs librosa (and soxr) beside the requirements")
    track = audio.read_track(shared("data", "media", "crema_d", "VideoFlash", f"{clip}.flv"))
    path = write_wav(tmp_path / "a.wav", audio.mono_at(track, 16_000).numpy())  # at the rate AudioWAV has
    x = np.tile(librosa.load(path, sr=22_050)[0], 3)[: 22_050 * 3].clip(-1, 1)
    theirs = np.log(np.abs(librosa.stft(x, n_fft=512, hop_length=353)) + 1e-7)
    ours = torch.from_numpy(read_sound(path, PAPER, Counter())[0])
    assert ours.shape == theirs.shape == (257, 188)
    agrees(ours, theirs.mean(1), 16_000, 22_050)


def test_what_is_prepared_names_the_resampler() -> None:
    for sound in (PAPER, PSD):
        assert sound.parameters["resampler"] == audio.RESAMPLER
    assert "kaiser" in audio.RESAMPLER


@pytest.mark.parametrize("target", [8000, 16_000, 22_050])
@pytest.mark.parametrize("rate", USUAL)
def test_every_usual_rate_can_be_brought_to_any_other(rate: int, target: int) -> None:
    assert audio.filter_size(rate, target) <= audio.FILTER
    if rate != target:
        assert audio._resampler(rate, target).kernel.numel() == audio.filter_size(rate, target)
    assert len(audio.resample(torch.zeros(rate // 10), rate, target)) == -(-(rate // 10) * target // rate)


@pytest.mark.parametrize(("rate", "says"), [
    (44_101, r"a rate of 44101 Hz is too odd to be brought to 22050 Hz here; .*`ffmpeg -i a\.\w+ -ar 22050 "),
    (191_999, "a rate of 191999 Hz is too odd"),
    (192_001, "a rate of 192001 Hz, not between 8000 and 192000; .*`ffmpeg "),
    (7999, "a rate of 7999 Hz, not between 8000 and 192000"),
    (1, "a rate of 1 Hz, not between 8000 and 192000"),
])  # fmt: skip
@pytest.mark.parametrize("suffix", ["wav", "mka"])  # the latter is read by FFmpeg, as a video's sound is
def test_an_odd_rate_is_one_line_that_names_the_file_and_says_what_to_do(
    tmp_path: Path, rate: int, says: str, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    write_wav(path, tone(1, 16_000), rate)
    with pytest.raises(AudioDecodeError, match=rf"a\.{suffix}: {says}") as error:
        read_sound(path, PAPER, Counter())
    assert "\n" not in str(error.value)


def test_an_odd_rate_in_ones_own_data_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    rows = ["id,split,label,audio:audio,again:audio"]
    for i in range(6):
        write_wav(tmp_path / f"{i}.wav", tone(0.5, 16_000), 44_101 if i == 4 else 44_100)
        rows.append(f"{i},{('train', 'train', 'train', 'train', 'val', 'test')[i]},{'xy'[i % 2]},{i}.wav,{i}.wav")
    (tmp_path / "all.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(AudioDecodeError, match=r"line 6, column audio:audio: .*4\.wav: a rate of 44101 Hz is too odd"):
        Manifest.prepare(progress=False, path=str(tmp_path / "all.csv"), seconds=0.5)
