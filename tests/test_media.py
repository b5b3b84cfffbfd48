"""Sound and pictures: pinned values, genuine clips, and files that are damaged in every way the specification names."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from datasets.core.errors import AudioDecodeError, EmptyMediaError, NoAudioTrackError, VideoDecodeError
from datasets.decode import audio, image_files, image_transforms
from datasets.decode.video import bb_ks, first, fps_blocks, read_frames, read_jpegs, segments, thirds_first
from tests.media import frame, tone, wav_from_flv, write_clip, write_flv, write_wav
from tests.shared import shared

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 81000\n"
GENUINE = ("data", "media", "crema_d", "VideoFlash")


def signal(rate: int, samples: int, dtype: torch.dtype) -> torch.Tensor:
    """Section 14 of the data specification."""
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


# ---- frames


def test_frame_blocks_are_those_of_the_reference_code():
    def numbers(count: int, k: int) -> list[int]:
        return [c for c in range(count) if fps_blocks(c, 989 / 33, k)]

    assert numbers(67, 1) == [0, 29, 58] and numbers(56, 1) == [0, 29]
    assert numbers(67, 2) == [0, 14, 29, 43, 58]
    assert numbers(67, 3) == [0, 9, 18, 29, 38, 47, 58]


@pytest.mark.parametrize(("name", "k", "numbers"), [
    ("1001_DFA_ANG_XX", 1, (0, 29, 58)), ("1001_DFA_ANG_XX", 2, (0, 14, 29, 43, 58)), ("1001_DFA_HAP_XX", 1, (0, 29)),
])  # fmt: skip
def test_genuine_clips_give_the_frames_counted_in_them(name, k, numbers):
    frames = read_frames(shared(*GENUINE, f"{name}.flv"), k, 360, 480)
    assert frames.numbers == numbers and not frames.notes
    assert frames.pixels.shape == (len(numbers), 360, 480, 3) and frames.pixels.dtype == np.uint8
    assert 40 < frames.pixels.mean() < 220 and frames.pixels.std() > 30  # a person in front of a wall, not a blank


def test_genuine_clips_keep_their_sound_apart(tmp_path):
    recording = audio.read_audio(wav_from_flv(shared(*GENUINE, "1001_DFA_ANG_XX.flv"), tmp_path / "a.wav"))
    assert recording.rate == 16_000 and abs(recording.samples.shape[1] / 16_000 - 2.235) < 0.1


def test_frames_are_the_ones_they_claim_to_be(tmp_path):
    frames = read_frames(write_flv(tmp_path / "a.flv", 67), 2, 360, 480)
    assert frames.numbers == (0, 14, 29, 43, 58) and not frames.notes
    for got, number in zip(frames.pixels, frames.numbers, strict=True):
        assert np.abs(got.astype(int) - frame(number)).mean() < 4


def test_other_sizes_are_brought_to_one_and_counted(tmp_path):
    frames = read_frames(write_flv(tmp_path / "a.flv", 30, size=(320, 240)), 1, 360, 480)
    assert frames.pixels.shape == (2, 360, 480, 3) and frames.notes == {"video_resized": 1}


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "0 bytes"), (POINTER, "git lfs pull"), (b"FLV\1\5\0\0", "not a readable video")]
)
def test_B7_what_is_not_a_video_is_named(tmp_path, content, says):
    path = tmp_path / "a.flv"
    path.write_bytes(content)
    with pytest.raises(VideoDecodeError, match=says) as error:
        read_frames(path, 1, 360, 480)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_B7_no_video_stream_no_frame_no_rate(tmp_path):
    with pytest.raises(VideoDecodeError, match="no video stream"):
        read_frames(write_flv(tmp_path / "sound.flv", video=False), 1, 360, 480)
    with pytest.raises(VideoDecodeError, match="1 frames a second, at least 2"):
        read_frames(write_flv(tmp_path / "slow.flv", 3, rate=Fraction(1), sound=False), 2, 360, 480)
    path = write_flv(tmp_path / "empty.flv", 20, sound=False)
    data = path.read_bytes()
    start = data.index(b"\x09", 13)  # the first video tag: keep its head, lose everything behind
    path.write_bytes(data[: start + 16] + bytes(2000))
    with pytest.raises(VideoDecodeError):
        read_frames(path, 1, 360, 480)


def test_B8_damage_in_the_middle_costs_no_more_than_it_must(tmp_path):
    path = write_flv(tmp_path / "a.flv", 67)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)
    frames = read_frames(path, 1, 360, 480)
    assert frames.notes == {"video_partial": 1} and len(frames.numbers) == 3 and frames.numbers[0] == 0
    path.write_bytes(bytes(data)[: len(data) // 2])
    frames = read_frames(path, 1, 360, 480)
    assert frames.notes == {"video_partial": 1} and frames.numbers == (0, 29)


def test_B8_damage_in_a_genuine_clip(tmp_path):
    data = bytearray(shared(*GENUINE, "1001_DFA_ANG_XX.flv").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    (tmp_path / "a.flv").write_bytes(data)
    frames = read_frames(tmp_path / "a.flv", 1, 360, 480)
    assert frames.notes == {"video_partial": 1} and len(frames.numbers) == 3


def test_B9_a_video_without_sound_is_as_good_as_any(tmp_path):
    assert read_frames(write_flv(tmp_path / "a.flv", 30, sound=False), 1, 360, 480).numbers == (0, 29)


@pytest.mark.parametrize("name", ["-a & b.flv", "http:x.flv", "ünï cödé%03d.flv", "concat:a|b.flv"])
def test_B22_odd_names_are_only_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_flv(Path("plain.flv"), 20).rename(name)
    assert read_frames(Path(name), 1, 360, 480).numbers == (0,)
    sound = write_wav(Path("plain.wav"), tone(1, 16_000)).rename(name.replace("flv", "wav"))
    assert audio.read_audio(sound).samples.shape == (1, 16_000)


def test_segments_take_the_middle_or_draw_and_repeat_where_there_is_too_little():
    count = torch.tensor([7, 6, 3, 2, 1])
    assert segments(count, 3).tolist() == [[1, 3, 5], [1, 3, 5], [0, 1, 2], [0, 0, 1], [0, 0, 0]]
    low, high = segments(count, 3, torch.zeros(5, 3)), segments(count, 3, torch.full((5, 3), 0.999))
    assert low.tolist() == [[0, 2, 4], [0, 2, 4], [0, 1, 2], [0, 0, 1], [0, 0, 0]]
    assert high[0].tolist() == [1, 3, 5] and (high < count[:, None]).all()
    assert segments(torch.tensor([3]), 1).tolist() == [[1]]


# ---- images


def test_first_takes_the_first_frames_and_repeats_where_there_are_too_few():
    count = torch.tensor([10, 3, 2, 1])
    assert first(count, 3).tolist() == [[0, 1, 2], [0, 1, 2], [0, 0, 1], [0, 0, 0]]
    assert torch.equal(first(count, 3), first(count, 3, torch.rand(4, 3)))
    assert first(count, 1).tolist() == [[0]] * 4


def picture(seed: int = 0, batch: int = 1, picks: int = 1) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch * picks, 3, 9, 12, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, (360, 480), mode="bicubic").clamp(0, 1)
    return (smooth * 255).byte().permute(0, 2, 3, 1).unflatten(0, (batch, picks)).contiguous()


def test_boxes_obey_the_rules_of_the_random_resized_crop():
    draws = torch.rand(4000, image_transforms.DRAWS, generator=torch.Generator().manual_seed(1))
    top, left, h, w, flip = image_transforms.crop_boxes(draws, 360, 480).unbind(-1)
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= 360).all() and (left + w <= 480).all()
    assert torch.equal(top, top.round()) and torch.equal(w, w.round())
    area = h * w / (360 * 480)
    assert area.min() >= 0.079 and area.max() <= 1.0 and 0.4 < area.mean() < 0.6
    assert (w / h).min() > 0.74 and (w / h).max() < 1.35
    assert 0.47 < flip.mean() < 0.53 and set(flip.tolist()) == {0.0, 1.0}


def test_a_crop_that_never_fits_becomes_the_centre():
    draws = torch.full((1, image_transforms.DRAWS), 0.999)  # all of the area at 4/3 never fits a tall frame
    top, left, h, w, _ = image_transforms.crop_boxes(draws, 600, 300)[0].tolist()
    assert (top, left, h, w) == (100, 0, 400, 300)


def test_crops_are_those_of_torchvision_without_its_smoothing():
    frames = picture(2, batch=4, picks=2)
    boxes = image_transforms.crop_boxes(
        torch.rand(4, 2, image_transforms.DRAWS, generator=torch.Generator().manual_seed(3)), 360, 480
    )
    got = image_transforms.crop_and_flip(frames, boxes, 64)
    assert got.shape == (4, 3, 2, 64, 64) and got.dtype == torch.float32
    for b in range(4):
        for t in range(2):
            top, left, h, w, flip = (int(x) for x in boxes[b, t])
            crop = frames[b, t].permute(2, 0, 1)[:, top : top + h, left : left + w].float()
            want = v2.functional.resize(crop, [64, 64], antialias=False) / 255
            want = v2.functional.normalize(want.flip(-1) if flip else want, image_transforms.MEAN, image_transforms.STD)
            torch.testing.assert_close(got[b, :, t, 1:-1, 1:-1], want[:, 1:-1, 1:-1], atol=1e-3, rtol=0)


def test_evaluation_resizes_the_whole_frame_as_torchvision_does():
    frames = picture(4, batch=2)
    got = image_transforms.plain_resize(frames, 224)
    assert got.shape == (2, 3, 1, 224, 224)
    for b in range(2):
        want = v2.functional.resize(frames[b, 0].permute(2, 0, 1), [224, 224], antialias=True).float() / 255
        torch.testing.assert_close(
            got[b, :, 0], v2.functional.normalize(want, image_transforms.MEAN, image_transforms.STD), atol=0.02, rtol=0
        )


# ---- sound and pictures of other videos


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_videos_of_other_kinds_are_heard_and_seen(tmp_path, suffix):
    path = write_clip(tmp_path / f"-a & b{suffix}", 2.0, hertz=500)
    recording = audio.read_track(path)
    assert not recording.notes and abs(recording.samples.shape[1] / recording.rate - 2) < 0.1
    x = audio.mono(recording.samples)[recording.rate // 2 : recording.rate]
    peak = torch.fft.rfft(x).abs().argmax() * recording.rate / len(x)
    assert abs(float(peak) - 500) < 5 and 0.4 < float(x.abs().max()) < 0.6
    jpegs = read_jpegs(path, "fps_blocks", 2)[0]
    assert len(jpegs) == 4 and image_files.size(jpegs[0]) == (60, 80)
    for jpeg, number in zip(jpegs, (0, 5, 10, 15), strict=True):
        got = image_files.scaled(jpeg, 60).astype(int)
        want = image_files.scaled(image_files.encode(frame(number, 80, 60)), 60)
        assert np.abs(got - want).mean() < 12
    assert len(read_jpegs(path, "every", 1)[0]) == 20


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


def test_frames_at_half_seconds_wrap_into_the_last_second(tmp_path):
    path = write_clip(tmp_path / "a.mp4", 3.2, rate=10)  # 32 frames
    jpegs, notes = read_jpegs(path, "time_centres", 10)
    places = [5, 15, 25, *[22 + (10 * i + 5) % 10 for i in range(3, 10)]]
    assert len(jpegs) == 10 and not notes
    every = read_jpegs(path, "every", 1)[0]
    assert [every.index(jpeg) for jpeg in jpegs] == places


def test_choices_of_frames_are_those_of_the_reference_code():
    count = torch.tensor([10, 9, 7, 6, 3, 2])
    assert thirds_first(count, 3).tolist() == [[0, 3, 6], [0, 3, 6], [0, 2, 4], [0, 2, 4], [0, 1, 2], [0, 0, 1]]
    assert torch.equal(thirds_first(count, 3), thirds_first(count, 3, torch.rand(6, 3)))
    assert bb_ks(count, 3).tolist() == [[0, 3, 6], [0, 3, 6], [0, 2, 4], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    high = bb_ks(torch.tensor([30, 10, 6]), 3, torch.full((3, 3), 0.999))
    assert high.tolist() == [[8, 8, 8], [2, 5, 8], [0, 0, 0]]
    assert bb_ks(torch.tensor([10]), 3, torch.zeros(1, 3)).tolist() == [[0, 3, 6]]


@pytest.mark.parametrize(("n_fft", "hop"), [(512, 353), (256, 128)])
def test_stft_log_is_librosas(n_fft, hop):
    librosa = pytest.importorskip("librosa", reason="librosa is not installed; the pinned values above stand for it")
    x = signal(22_050, 66_150, torch.float64)
    want = np.log(np.abs(librosa.stft(x.numpy(), n_fft=n_fft, hop_length=hop, pad_mode="constant")) + 1e-7)
    np.testing.assert_allclose(audio.stft_log(x, n_fft, hop), want, atol=1e-4)
