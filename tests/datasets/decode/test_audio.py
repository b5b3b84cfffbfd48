"""Recordings, damaged and whole, and the operators that make spectrograms of them."""

import math

import numpy as np
import pytest
import torch

from datasets.core.errors import AudioDecodeError, EmptyMediaError, NoAudioTrackError, VideoDecodeError
from datasets.decode import audio
from datasets.decode.video import read_jpegs
from tests.helpers.media import tone, write_clip, write_wav

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 81000\n"


def signal(rate: int, samples: int, dtype: torch.dtype) -> torch.Tensor:
    """A tone of 440 Hz and one that rises from 1 kHz, whose spectrogram is pinned below."""
    t = torch.arange(samples, dtype=torch.float64) / rate
    x = 0.6 * torch.sin(2 * math.pi * 440 * t) + 0.3 * torch.sin(2 * math.pi * (1000 + 200 * t) * t)
    return x.to(dtype)


def agree(got: torch.Tensor, entries: dict[tuple[int, int], float], precise: bool) -> None:
    for place, value in entries.items():
        tolerance = 1e-4 if precise else 1e-3 if value > -7 else 2e-2
        assert abs(float(got[place]) - value) < tolerance, (place, float(got[place]), value)


# ---- pinned values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stft_log_has_the_pinned_values(dtype):
    got = audio.stft_log(audio.tile(signal(22_050, 33_075, dtype), 66_150), 512, 353)
    assert got.shape == (257, 188)
    precise = dtype == torch.float64
    agree(got, {(0, 0): 1.76924, (10, 0): 3.65340, (10, 94): 4.31188, (23, 50): -3.47130, (100, 94): -3.46056,
                (256, 187): -3.76331}, precise)  # fmt: skip
    assert abs(float(got.mean()) + 9.80106) < (1e-4 if precise else 0.06)
    assert abs(float(got.std(correction=0)) - 4.32564) < (1e-4 if precise else 0.06)
    window = audio.tile(signal(16_000, 64_000, dtype), 160_000)[40_000:120_000]
    got = audio.stft_log(window, 256, 128)
    assert got.shape == (129, 626)
    agree(got, {(0, 0): 1.34198, (7, 0): 2.95911, (7, 300): 3.64701, (16, 100): -6.18561, (60, 300): -9.24500,
                (128, 625): -2.27866}, precise)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_psd_log_has_the_pinned_values(dtype):
    got = audio.psd_log(audio.tile(signal(16_000, 64_000, dtype), 160_000), 16_000)
    assert got.shape == (257, 1004)
    agree(got, {(0, 0): -0.01636, (14, 0): 6.08024, (14, 500): 6.08019, (32, 100): -0.32921, (100, 500): -0.33337,
                (256, 1003): -0.33338}, dtype == torch.float64)  # fmt: skip
    assert audio.psd_log(signal(16_000, 48_000, dtype), 16_000).shape == (257, 299)


def test_psd_log_is_scipys_spectrogram():
    from scipy.signal import spectrogram

    x = signal(16_000, 48_000, torch.float64)
    _, _, power = spectrogram(x.numpy(), 16_000, nperseg=512, noverlap=353)
    log = np.log(power + 1e-7)
    np.testing.assert_allclose(audio.psd_log(x, 16_000), (log - log.mean()) / (log.std() + 1e-9), atol=1e-9)


def test_kaldi_fbank_has_the_pinned_values():
    got = audio.kaldi_fbank(signal(16_000, 160_000, torch.float32)[None], 16_000)
    assert got.shape == (1024, 128)
    agree(got, {(0, 0): -0.86767, (0, 20): 0.43861, (500, 20): 0.43850, (500, 64): -1.11242, (997, 127): -1.11242,
                (1023, 0): 0.43801}, False)  # fmt: skip
    assert abs(float(got.mean()) + 0.64812) < 0.01
    padding = torch.tensor(4.503877 / (2 * 5.141276))

    def frames(samples: int, rate: int) -> int:
        banks = audio.kaldi_fbank(signal(rate, samples, torch.float32)[None], rate)
        return int((~torch.isclose(banks, padding).all(1)).sum())

    assert [frames(10 * rate, rate) for rate in (16_000, 44_100, 48_000, 22_050)] == [998, 998, 998, 1000]
    assert frames(40_000, 16_000) == 248 and frames(400, 16_000) == 1
    with pytest.raises(EmptyMediaError, match="399 samples are less than one window"):
        audio.kaldi_fbank(torch.zeros(1, 399), 16_000)


def test_kaldi_fbank_hears_the_first_channel_only():
    x = signal(16_000, 16_000, torch.float32)
    noise = torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    alone, both = audio.kaldi_fbank(x[None], 16_000), audio.kaldi_fbank(torch.stack([x, noise]), 16_000)
    assert (alone - both).abs().mean() < 1e-3  # only the mean over all channels differs
    assert (alone - audio.kaldi_fbank((x + noise)[None] / 2, 16_000)).abs().mean() > 0.05


def test_log_mel_filters_cover_the_band_and_sum_to_one():
    filters = audio._mel_filters(8000, 256, 32)
    assert filters.shape == (32, 129)
    torch.testing.assert_close(filters.sum(1), torch.ones(32, dtype=torch.float64))
    assert (
        filters[:, :3].abs().max() < 1e-12 and filters[:, 3:128].any(0).all() and (filters.argmax(1).diff() >= 1).all()
    )
    loud = audio.log_mel(torch.from_numpy(tone(1, 8000, 1000)), 8000)
    assert loud.shape == (32, 63)
    centre = filters[int(loud.mean(1).argmax())].argmax() * 8000 / 256
    assert abs(float(centre) - 1000) < 100


def test_resampling_keeps_a_tone_and_rounds_the_length_up():
    x = torch.from_numpy(tone(1, 16_000)).float()
    y = audio.resample(x, 16_000, 22_050)
    assert len(y) == 22_050 and len(audio.resample(x[:15_999], 16_000, 22_050)) == math.ceil(15_999 * 22_050 / 16_000)
    inside = slice(1000, -1000)
    np.testing.assert_allclose(y[inside], tone(1, 22_050)[inside], atol=2e-3)
    alias = audio.resample(torch.from_numpy(tone(1, 16_000, 6000)).float(), 16_000, 8000)
    assert alias[100:-100].abs().max() < 0.02  # 6 kHz has no place at 8 kHz and must not fold back
    assert audio.resample(x, 16_000, 16_000) is x


def test_tiling_and_fitting():
    x = torch.arange(5.0)
    np.testing.assert_array_equal(audio.tile(x, 12), np.tile(x, 3)[:12])
    assert audio.tile(x, 3).tolist() == [0, 1, 2] == audio.fit(x, 3).tolist()
    assert audio.fit(x, 7).tolist() == [0, 1, 2, 3, 4, 0, 0]
    with pytest.raises(EmptyMediaError):
        audio.tile(x[:0], 3)


# ---- recordings that are damaged (B1 to B6)


def test_B1_a_truncated_recording_gives_what_is_there(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(2, 16_000))
    whole = audio.read_audio(path)
    assert whole.samples.shape == (1, 32_000) and whole.rate == 16_000 and not whole.notes
    path.write_bytes(path.read_bytes()[: 44 + 2 * 5000])
    half = audio.read_audio(path)
    assert half.notes == {"audio_truncated": 1}
    assert torch.equal(half.samples, whole.samples[:, :5000])
    path.write_bytes(path.read_bytes()[: 44 + 2 * 1599])
    with pytest.raises(EmptyMediaError, match=r"a\.wav: cut off after 0\.100 s"):
        audio.read_audio(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 bytes"),
        (POINTER, "git lfs pull"),
        (b"RIFF\0\0", "not a recording"),
        (b"\x7fELF" * 500, "not a recording"),
    ],
)
def test_B2_what_is_not_a_recording_is_named(tmp_path, content, says):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(AudioDecodeError, match=says) as error:
        audio.read_audio(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_B2_a_damaged_header(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(1, 16_000))
    data = bytearray(path.read_bytes())
    data[8:16] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(AudioDecodeError):
        audio.read_audio(path)


def test_B3_a_recording_without_samples(tmp_path):
    with pytest.raises(EmptyMediaError, match="without samples"):
        audio.read_audio(write_wav(tmp_path / "a.wav", np.zeros(0)))


def test_B4_silence_is_a_valid_recording(tmp_path):
    recording = audio.read_audio(write_wav(tmp_path / "a.wav", np.zeros(16_000)))
    assert recording.notes == {"silent": 1}
    x = audio.tile(audio.mono(recording.samples), 48_000)
    torch.testing.assert_close(audio.stft_log(x, 512, 353), torch.full((257, 136), math.log(1e-7)))
    assert audio.psd_log(x, 16_000).abs().max() < 1e-3
    assert audio.kaldi_fbank(recording.samples, 16_000).isfinite().all()


def test_B5_a_few_bad_samples_become_zero_and_many_are_refused(tmp_path):
    x = tone(1, 16_000)
    x[[5, 80]] = np.nan, np.inf
    recording = audio.read_audio(write_wav(tmp_path / "a.wav", x, subtype="FLOAT"))
    assert recording.notes == {"audio_not_finite": 2} and recording.samples.isfinite().all()
    assert recording.samples[0, 5] == recording.samples[0, 80] == 0 and recording.samples[0, 6] != 0
    x[:161] = np.nan
    with pytest.raises(AudioDecodeError, match="161 of 16000"):
        audio.read_audio(write_wav(tmp_path / "a.wav", x, subtype="FLOAT"))


@pytest.mark.parametrize(
    ("subtype", "bits"), [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24), ("PCM_32", 32), ("FLOAT", 24)]
)
def test_B6_other_formats_are_converted(tmp_path, subtype, bits):
    x = np.stack([tone(0.5, 44_100), -0.5 * tone(0.5, 44_100)], 1)
    recording = audio.read_audio(write_wav(tmp_path / "a.wav", x, 44_100, subtype))
    assert recording.samples.shape == (2, 22_050) and recording.rate == 44_100
    np.testing.assert_allclose(audio.mono(recording.samples), x.mean(1), atol=1.01 / 2 ** (min(bits, 24) - 1))


def test_integer_samples_are_divided_by_their_range(tmp_path):
    recording = audio.read_audio(write_wav(tmp_path / "a.wav", np.array([-1.0, 0, 0.5])))
    assert recording.samples.tolist() == [[-1.0, 0.0, 0.5]]


def test_B9_a_video_without_sound_and_sound_that_is_cut_off(tmp_path):
    with pytest.raises(NoAudioTrackError, match=r"a\.mp4: there is no sound in it"):
        audio.read_track(write_clip(tmp_path / "a.mp4", 1.0, sound=False))
    path = write_clip(tmp_path / "b.webm", 2.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert audio.read_track(path).notes["audio_truncated"] == 1
    assert read_jpegs(path, "fps_blocks", 1)[1]["video_partial"] == 1
    with pytest.raises(VideoDecodeError, match="no video stream"):
        read_jpegs(write_clip(tmp_path / "c.mp4", 1.0, video=False), "every", 1)


def test_B4_a_silent_track_is_a_valid_one(tmp_path):
    recording = audio.read_track(write_clip(tmp_path / "a.mp4", 1.0, hertz=0))
    assert recording.notes == {"silent": 1} and audio.stft_log(recording.samples[0], 256, 128).isfinite().all()


@pytest.mark.parametrize(("content", "says"), [(b"", "0 bytes"), (POINTER, "git lfs pull"), (b"ID3", "not a readable")])
def test_B2_what_is_not_a_track_is_named(tmp_path, content, says):
    (tmp_path / "a.mp3").write_bytes(content)
    with pytest.raises(AudioDecodeError, match=says):
        audio.read_track(tmp_path / "a.mp3")


@pytest.mark.parametrize(("n_fft", "hop"), [(512, 353), (256, 128)])
def test_stft_log_is_librosas(n_fft, hop):
    librosa = pytest.importorskip("librosa", reason="librosa is not installed; the pinned values above stand for it")
    x = signal(22_050, 66_150, torch.float64)
    want = np.log(np.abs(librosa.stft(x.numpy(), n_fft=n_fft, hop_length=hop, pad_mode="constant")) + 1e-7)
    np.testing.assert_allclose(audio.stft_log(x, n_fft, hop), want, atol=1e-4)
