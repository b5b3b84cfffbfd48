"""UCF-101: pictures and flow in the true layout, one crop and flip for both, from download to an epoch."""

import hashlib
import io
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import ucf101
from datasets.core.errors import (
    DataError,
    LabelError,
    ManifestError,
    MissingMediaError,
    PinMismatchError,
    VideoDecodeError,
)
from datasets.decode import image_files, image_transforms
from datasets.storage.download import ExactFile
from datasets.ucf101 import CLASSES, UCF101, ZIP, check_classes, parse, scaled_flow, unzip
from tests.helpers import clips
from tests.helpers.media import write_clip

OWN = {"allow_unpinned": True, "image_size": 32}
FEW = (0, 36, 100)  # HandstandPushups is the one whose spelling varies
TRAIN = [f"v_{CLASSES[i]}_g{g:02d}_c01" for i in FEW for g in (8, 9, 24)]
TEST = [f"v_{CLASSES[i]}_g01_c0{c}" for i in FEW for c in (1, 2)]


def listed(clip: str, number: bool) -> str:
    name = clip.split("_")[1]
    stem = clip.replace("Handstand", "HandStand")  # in the stem alone
    return f"{name}/{stem}.avi" + (f" {CLASSES.index(name) + 1}" if number else "")


def lists(n: int) -> dict[str, bytes]:
    return {
        f"trainlist0{n}.txt": "".join(f"{listed(clip, True)}\r\n" for clip in TRAIN).encode(),
        f"testlist0{n}.txt": "".join(f"{listed(clip, False)}\n" for clip in TEST).encode(),
    }


LISTS = {
    "classInd.txt": "".join(f"{i + 1} {name}\r\n" for i, name in enumerate(CLASSES)).encode(),
    **lists(1), **lists(2), **lists(3),
}  # fmt: skip


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members.items():
            out.writestr(f"ucfTrainTestlist/{name}", content)
    return file.getvalue()


def grey(value: int, size=(40, 30)) -> Image.Image:
    """A picture whose left half is darker than its right one."""
    picture = np.full((size[1], size[0]), value, np.uint8)
    picture[:, size[0] // 2 :] += 40
    return Image.fromarray(picture)


def save(picture: Image.Image, path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=95)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    raw = tmp_path_factory.mktemp("raw") / "ucf101"
    for number, clip in enumerate(TRAIN + TEST):
        stem = clip.replace("Handstand", "HandStand")
        frames = 5 + number % 3
        if number % 4 == 3:  # only the video is there
            write_clip(raw / "UCF-101" / clip.split("_")[1] / f"{stem}.avi", frames / 10, sound=False)
        else:
            for f in range(frames):
                save(grey(10 * f + number).convert("RGB"), raw / "jpegs_256" / stem / f"frame{f + 1:06d}.jpg")
        for f in range(frames - 1):
            save(grey(60 + 10 * f), raw / "tvl1_flow" / "u" / stem / f"frame{f + 1:06d}.jpg")
            save(grey(110 + 10 * f + number), raw / "tvl1_flow" / "v" / stem / f"frame{f + 1:06d}.jpg")
    (raw / "splits").mkdir()
    for name, content in LISTS.items():
        (raw / "splits" / name).write_bytes(content)
    return raw


@pytest.fixture
def raw(written, tmp_path, monkeypatch):
    folder = tmp_path / "raw" / "ucf101"
    shutil.copytree(written, folder)
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(UCF101, "classes", tuple(CLASSES[i] for i in FEW))
    monkeypatch.setattr(ucf101, "CLASSES", tuple(CLASSES[i] for i in FEW))
    monkeypatch.setattr(ucf101, "check_classes", lambda text, path: None)  # the three classes of these tests
    for name in LISTS:
        text = (folder / "splits" / name).read_text()
        for number, i in enumerate(FEW):
            text = text.replace(f".avi {i + 1}\n", f".avi -{number + 1}\n")
        (folder / "splits" / name).write_text(text.replace(" -", " "))
    return folder


def test_from_download_to_an_epoch(raw, capsys, monkeypatch):
    members = {path.name: path.read_bytes() for path in (raw / "splits").iterdir()}
    archive = zipped(members)
    shutil.rmtree(raw / "splits")
    monkeypatch.setattr(ucf101, "ZIP_PIN", ExactFile(len(archive), hashlib.sha256(archive).hexdigest()))
    clips.downloads(UCF101, {ZIP: archive}, capsys, monkeypatch)
    assert sorted(p.name for p in (raw / "splits").iterdir()) == sorted(LISTS)
    with pytest.raises(PinMismatchError, match=r"trainlist01\.txt: not the published list: 9 clips, expected 9537"):
        UCF101.prepare(progress=False)
    monkeypatch.setattr(ucf101, "SIZES", {1: (9, 6)})
    out = clips.command(capsys, "info", "ucf101")
    assert "train: 6 samples of 3 classes (2 to 2 each)" in out
    assert "val: 3 samples of 3 classes (1 to 1 each); 0 clips and 0 sources are in train too" in out
    out = clips.command(capsys, "prepare", "ucf101")
    assert "train: 6 of 6" in out and "val: 3 of 3" in out and "test: 6 of 6" in out
    out = clips.command(capsys, "verify", "ucf101")
    assert "split 1 9537/3783" in out and "ours: test 6 of 6" in out and "mpeg4 80x60" in out
    clips.trains("ucf101", {"image_size": 32}, 3)


def test_flow_is_taken_where_the_pictures_are(raw):
    UCF101.prepare(progress=False, **OWN)
    test = UCF101.module(**OWN).test
    assert test.ids == TEST and test.ids[2] == "v_HandstandPushups_g01_c01"
    for i, clip in enumerate(TEST):
        item = test[i]
        assert item["visual"].shape == (3, 3, 32, 32) and item["flow"].shape == (2, 3, 32, 32)
        n = int(test.count[i])
        number = len(TRAIN) + i
        assert n == 5 + number % 3 and item["label"] == FEW.index(CLASSES.index(clip.split("_")[1]))
        places = [j * (n // 3) + (n // 3) // 2 for j in range(3)]
        u = item["flow"][0, :, 16, 5] * 128 + 128
        torch.testing.assert_close(u, torch.tensor([60.0 + 10 * min(p, n - 2) for p in places]), atol=2, rtol=0)
        v = item["flow"][1, :, 16, 5] * 128 + 128
        torch.testing.assert_close(v - u, torch.full((3,), 50.0 + number), atol=3, rtol=0)


def test_one_crop_and_one_flip_decide_about_all(raw):
    UCF101.prepare(progress=False, **OWN)
    train = UCF101.module(**OWN).train
    flips = 0
    i = next(i for i in range(len(train)) if int(train.u.count[i]) == int(train.count[i]) - 1)
    for seed in range(12):
        item = train[i, seed]
        rgb, u, v = item["visual"].mean((0, 1)), item["flow"][0].mean(0), item["flow"][1].mean(0)
        falls = [float(x[:, -4:].mean() - x[:, :4].mean()) for x in (rgb, u, v)]
        if abs(falls[1]) < 0.05:
            continue  # the crop shows one half alone
        mirrored = bool(train.draws([seed])[0, 0, 3] < 0.5)
        flips += mirrored
        assert (falls[2] < 0) == mirrored == (falls[0] < 0)
        assert falls[1] > 0  # mirrored, u changes its sign too: what was larger on the right is now smaller on the left
        alone = train.augment(train.batch([(0, 1), (i, seed)]), [1, seed]).inputs
        assert torch.equal(alone["flow"][1], item["flow"]) and torch.equal(alone["visual"][1], item["visual"])
    assert 0 < flips < 12


def test_flow_is_scaled_and_mirrored():
    flow = torch.tensor([[[[0, 128], [255, 200]]]], dtype=torch.uint8).view(1, 1, 1, 2, 2)
    plain = scaled_flow(flow)
    assert plain.shape == (1, 2, 1, 1, 2)
    assert plain[0, :, 0, 0].tolist() == [[-1, 127 / 128], [0, 72 / 128]]
    mirrored = scaled_flow(flow, torch.tensor([True]))
    assert mirrored[0, :, 0, 0].tolist() == [[(255 - 255 - 128) / 128, (255 - 0 - 128) / 128], [72 / 128, 0]]


def test_B25_flow_folders_that_do_not_fit(raw):
    stem = TEST[0]
    (raw / "tvl1_flow" / "v" / stem / "frame000004.jpg").unlink()
    UCF101.prepare(progress=False, **OWN)
    test = UCF101.module(**OWN).test
    assert test.report.notes["flow_uneven"] == 1 and int(test.u.count[0]) == int(test.v.count[0]) == 3
    save(grey(100, (44, 30)), raw / "tvl1_flow" / "v" / stem / "frame000002.jpg")
    with pytest.raises(VideoDecodeError, match=f"{stem} differ in size"):
        UCF101.prepare(progress=False, **OWN)


def test_B10_B11_B26_folders_of_pictures(raw):
    folder = raw / "jpegs_256" / TRAIN[0]
    (folder / "Thumbs.db").write_bytes(b"not a picture")
    data = (folder / "frame000002.jpg").read_bytes()
    (folder / "frame000002.jpg").write_bytes(data[: len(data) // 2])
    Image.open(folder / "frame000003.jpg").convert("CMYK").save(folder / "frame000003.jpg")
    Image.open(folder / "frame000004.jpg").convert("L").save(folder / "frame000004.jpg")
    jpegs, notes = image_files.read_folder(folder)
    assert len(jpegs) == 5 and notes == {"frames_damaged": 1} and jpegs[1] == jpegs[2]
    assert all(image_files.scaled(jpeg, 16).shape == (16, 16, 3) for jpeg in jpegs)
    rotated = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated.save(folder / "frame000005.jpg", exif=exif)
    assert image_files.size((folder / "frame000005.jpg").read_bytes()) == (6, 10)
    deep = Image.fromarray((np.arange(256, dtype=np.uint16).reshape(16, 16) * 257).astype(np.uint16))
    deep.save(folder / "frame000006.png")
    assert image_files.scaled((folder / "frame000006.png").read_bytes(), 16)[..., 0].tolist() == (
        np.arange(256).reshape(16, 16).tolist()
    )
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("P").save(folder / "frame000007.png")
    assert image_files.scaled((folder / "frame000007.png").read_bytes(), 8)[..., 2].tolist()[1] == list(range(8, 16))
    UCF101.prepare(progress=False, **OWN)
    assert UCF101.module(**OWN).train.report.notes == {"frames_damaged": 1}
    for path in folder.iterdir():
        path.write_bytes(b"\xff\xd8 broken")
    with pytest.raises(VideoDecodeError, match="not one of its 7 pictures can be read"):
        UCF101.prepare(progress=False, **OWN)
    for path in folder.glob("*.*g"):
        path.unlink()
    with pytest.raises(MissingMediaError, match=r"no \.jpg or \.jpeg or \.png in it"):
        UCF101.prepare(progress=False, **OWN)
    shutil.rmtree(folder)
    with pytest.raises(MissingMediaError, match=rf"1 of 15 are missing: .*{TRAIN[0]}"):
        UCF101.prepare(progress=False, **OWN)


@pytest.mark.long  # what is common to all sets of clips runs with AVE and CREMA-D
def test_killed_and_damaged(raw, capsys, monkeypatch, tmp_path):
    clips.survives_kills(UCF101, OWN, capsys, monkeypatch, tmp_path, patches=KILLED_PATCH)


# the killed process is another one: it gets the three classes of these tests, too
KILLED_PATCH = """
from datasets import ucf101
few = tuple(ucf101.CLASSES[i] for i in (0, 36, 100))
ucf101.CLASSES = ucf101.UCF101.classes = few
ucf101.check_classes = lambda text, path: None
"""


def test_lists_in_both_spellings():
    path = ucf101.Path("a.txt")
    rows, notes = parse("HandStandPushups/v_HandstandPushups_g01_c01.avi 37\r\nYoYo/v_YoYo_g25_c05.avi 101\n", path)
    assert rows == [("v_HandstandPushups_g01_c01", 36), ("v_YoYo_g25_c05", 100)] and not notes
    assert CLASSES.index("Hammering") == 34 and CLASSES.index("HammerThrow") == 35 and len(CLASSES) == 101
    check_classes("".join(f"{i + 1} {name}\r\n" for i, name in enumerate(CLASSES)), path)
    with pytest.raises(LabelError, match="not the 101 classes in the authors' order"):
        check_classes("".join(f"{i + 1} {name}\n" for i, name in enumerate(sorted(CLASSES))), path)


@pytest.mark.parametrize(("text", "error", "says"), [
    ("Archery/v_Archery_g01.avi 3\n", ManifestError, "line 1: .* is not called Class/v_Class_gXX_cYY"),
    ("Archery/v_Biking_g01_c01.avi 3\n", ManifestError, "line 1"),
    ("../v_.._g01_c01.avi\n", ManifestError, "line 1"),
    ("Archery/v_Archery_g01_c01.avi 2\n", LabelError, "Archery is class 3, not 2"),
    ("Archerie/v_Archerie_g01_c01.avi\n", LabelError, "nearest class: Archery"),
])  # fmt: skip
def test_bad_rows_are_one_line(tmp_path, text, error, says):
    with pytest.raises(error, match=says) as raised:
        parse(text, tmp_path / "a.txt")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [b"not a zip", zipped({"classInd.txt": b"1 x"}), zipped(LISTS)[:-60]],
    ids=["no zip", "lists missing", "cut off"],  # by name: a zip holds the time at which it was made
)
def test_archives_that_are_no_good(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip") as error:
        unzip(tmp_path / "a.zip", tmp_path)
    assert "\n" not in str(error.value) and [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_pictures_are_normalised_like_all_others(raw):
    UCF101.prepare(progress=False, **OWN)
    item = UCF101.module(**OWN).test[0]
    jpegs = image_files.read_folder(raw / "jpegs_256" / TEST[0])[0]
    third = len(jpegs) // 3
    want = np.stack([image_files.scaled(jpegs[j * third + third // 2], 32) for j in range(3)])
    assert torch.equal(item["visual"], image_transforms.normalise(torch.from_numpy(want)[None])[0])


@pytest.mark.parametrize("folder", ["jpegs_256", "tvl1_flow/v"])
def test_another_file_of_the_same_size_is_noticed(raw, folder):
    clips.notices_changed_files(UCF101, OWN, sorted((raw / folder).glob("*/*.jpg"))[0])
