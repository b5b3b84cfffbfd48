"""Which frames are taken from videos, damaged and whole, and which of those a sample sees."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.core.errors import VideoDecodeError
from datasets.decode import audio, image_files
from datasets.decode.video import bb_ks, first, fps_blocks, read_frames, read_jpegs, segments, thirds_first
from tests.helpers.media import frame, tone, wav_from_flv, write_clip, write_flv, write_wav
from tests.helpers.shared_media import shared

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 81000\n"
GENUINE = ("data", "media", "crema_d", "VideoFlash")


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


def test_first_takes_the_first_frames_and_repeats_where_there_are_too_few():
    count = torch.tensor([10, 3, 2, 1])
    assert first(count, 3).tolist() == [[0, 1, 2], [0, 1, 2], [0, 0, 1], [0, 0, 0]]
    assert torch.equal(first(count, 3), first(count, 3, torch.rand(4, 3)))
    assert first(count, 1).tolist() == [[0]] * 4


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
