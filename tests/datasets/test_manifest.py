"""Somebody's own data: a CSV in every spelling, every mistake named, all kinds of files, an epoch."""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.config.run_config import configure
from benchmarks.runner.build import build
from benchmarks.runner.experiment import resolve
from datasets.core.errors import (
    AudioDecodeError,
    DataError,
    LabelError,
    ManifestError,
    MissingMediaError,
    SplitLeakError,
    VideoDecodeError,
)
from datasets.core.loader import Loader
from datasets.core.manifest_file import outline, read_manifest
from datasets.decode import image_transforms
from datasets.manifest import Manifest
from tests.helpers.media import frame, tone, write_clip, write_wav

SMALL = {"image_size": 16, "seconds": 0.5}
HEADER = "id,split,label,audio:audio,visual:video,face:image,walk:frames,words:npy,score:npz,said:text"


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write_csv(folder, text: str):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.csv").write_text(text)
    return folder / "own.csv"


def write_files(folder, i: int) -> str:
    """One sample with all kinds of files, and its cells."""
    write_wav(folder / f"s/{i}.wav", tone(0.4, 16_000, 200 + 40 * i))
    write_clip(folder / f"v/{i}.mp4", 2.0 + i % 2, rate=5)
    (folder / f"w/{i}").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(frame(number + i, 40, 30)).save(folder / f"w/{i}/{number:05d}.jpg")
    Image.fromarray(frame(i, 50, 40)).save(folder / f"w/{i}.png")
    np.save(folder / f"w/{i}.npy", np.full((4, 3), i, np.float64))
    np.savez(folder / f"w/{i}.npz", a=np.arange(5) + i, b=np.zeros(2))
    (folder / f"w/{i}.txt").write_text(f"so, {i} ü" * (40 if i == 9 else 1))
    return f"s/{i}.wav,v/{i}.mp4,w/{i}.png,w/{i},w/{i}.npy,w/{i}.npz#a,w/{i}.txt"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own & ü")
    parts = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    rows = [f"clip {i},{part},{'ab'[i % 2]},{write_files(folder, i)}" for i, part in enumerate(parts)]
    return write_csv(folder, "\n".join([HEADER, *rows]) + "\n")


def module(path, **args):
    args = {**SMALL, "path": str(path), **args}
    Manifest.prepare(progress=False, **args)
    return Manifest.module(**args)


# ---- samples


def test_every_kind_of_file_becomes_what_it_should(written):
    splits = module(written, picks=2)
    train, test = splits.train, splits.test
    assert train.modalities == ("audio", "visual", "face", "walk", "words", "score", "said")
    assert train.classes == ("a", "b")
    assert list(train.ids) == [f"clip {i}" for i in range(6)] and list(test.labels) == [0, 1]
    item = test[0]
    shapes = {m: tuple(item[m].shape) for m in train.modalities}
    assert shapes == {
        "audio": (1, 257, 1 + 11_025 // 353),
        "visual": (3, 2, 16, 16),
        "face": (3, 1, 16, 16),
        "walk": (3, 2, 16, 16),
        "words": (4, 3),
        "score": (1, 5),
        "said": (256, 256),
    }
    assert bytes(item["said"].argmax(1)[:8].tolist()).decode() == "so, 8 ü" and item["said"].sum(1).tolist()[8:9] == [0]
    assert item["said"].sum() == 8 and test.report.notes["texts_cut"] == 1
    assert all(item[m].dtype == torch.float32 for m in train.modalities) and item["id"] == "clip 8"
    assert item["words"].unique().tolist() == [8] and item["score"].tolist() == [[8, 9, 10, 11, 12]]
    stored = image_transforms.read_image(written.parent / "w/8.png", 19)
    assert torch.equal(item["face"], image_transforms.plain_resize(torch.from_numpy(stored.copy())[None, None], 16)[0])
    assert test.present is None and test.report.found == 2 and test.report.per_class == {"a": 1, "b": 1}


def test_augmentation_depends_on_the_seed_alone_in_batches_of_any_size(written):
    train = module(written, picks=2).train
    alone, other = train[1, 7], train[1, 8]
    batch = train.augment(train.batch([(3, 5), (1, 7), (2, 9)]), [5, 7, 9])
    for m in train.modalities:
        assert torch.equal(batch.inputs[m][1], alone[m]), m
        assert torch.equal(alone[m], other[m]) == (m in ("audio", "words", "score", "said")), m
    plain = module(written, augment="none").train
    assert torch.equal(plain[1, 7]["face"], plain[1]["face"])
    parity = module(written, augment="parity").train
    assert not torch.equal(parity[1, 7]["face"], parity[1]["face"])
    assert {train.fingerprint, plain.fingerprint, parity.fingerprint} == {
        *(module(written, **a).train.fingerprint for a in ({"picks": 2}, {"augment": "none"}, {"augment": "parity"}))
    }
    assert len({train.fingerprint, plain.fingerprint, parity.fingerprint}) == 3


def test_it_trains_with_encoders_chosen_by_kind(written):
    some = write_csv(written.parent / "part", "")
    rows = [line.split(",") for line in written.read_text().splitlines()]
    some.write_text("".join(",".join(row[:5]) + "\n" for row in rows))
    args = {**SMALL, "path": str(some), "root": str(written.parent)}
    Manifest.prepare(progress=False, **args)
    config = configure({"dataset": "manifest", "method": "ogm_ge", "dataset_args": args, "batch_size": 3})
    assert config.encoders == {"audio": "cnn", "visual": "cnn"}
    engine = build(resolve(config), device="cpu")
    engine.train_epoch()
    assert all(p.isfinite().all() for p in engine.parameters)
    given = configure({"dataset": "manifest", "dataset_args": args, "encoders.visual": "resnet18"})
    assert given.encoders == {"audio": "cnn", "visual": "resnet18"}


def test_start_and_end_are_seconds_of_sound_and_film(tmp_path):
    write_clip(tmp_path / "v.mp4", 4.0, rate=5)
    write_wav(tmp_path / "s.wav", np.concatenate([tone(2, 16_000, 300), np.zeros(32_000)]))
    text = "id,split,label,start,end,audio:audio,visual:video\n"
    text += "a,train,x,0,2,s.wav,v.mp4\nb,train,x,2,4,s.wav,v.mp4\nc,test,x,,,s.wav,v.mp4\nd,train,y,2,,v.mp4,v.mp4\n"
    path = write_csv(tmp_path, text)
    splits = module(path, image_size=56)
    train, whole = splits.train, splits.test
    samples = {name: splits.splits()[p][i] for p in splits.splits() for i, name in enumerate(splits.splits()[p].ids)}
    assert float(samples["b"]["audio"].max()) < -15 < float(samples["a"]["audio"].max())
    assert not torch.equal(samples["a"]["visual"], samples["b"]["visual"])
    counts = {n: len(train.cache.rows("visual", n)) for n in "abcd"}
    assert counts == {"a": 2, "b": 2, "c": 4, "d": 2} and len(whole) == 1


def test_labels_and_splits_may_change_without_decoding(written, monkeypatch):
    path = write_csv(written.parent / "again", "")
    path.write_text(written.read_text())
    args = {"root": str(written.parent)}
    module(path, **args)
    monkeypatch.setattr("datasets.manifest.decode_cell", lambda *a: pytest.fail("decoded again"))
    path.write_text(written.read_text().replace("clip 0,train,a", "clip 0,val,b"))
    splits = module(path, **args)
    assert list(splits.val.ids) == ["clip 0", "clip 6", "clip 7"] and splits.val.labels[0] == 1


def test_val_is_carved_where_there_is_none(tmp_path):
    for i in range(30):
        (tmp_path / "f").mkdir(exist_ok=True)
        np.save(tmp_path / f"f/{i}.npy", np.zeros(3))
    text = "id,split,label,group,x:npy,y:npy\n"
    text += "".join(
        f"{i},{'test' if i > 24 else 'train'},{'ab'[i % 2]},g{i % 26},f/{i}.npy,f/{i}.npy\n" for i in range(30)
    )
    splits = module(write_csv(tmp_path, text))
    assert [len(s) for s in splits.splits().values()] == [23, 2, 5] and splits.val.labels == [0, 1]
    assert splits.val.report.notes["val_carved"] == 2 and splits.test.report.notes["groups_also_in_train"] >= 3
    again = module(tmp_path / "own.csv")
    assert list(again.val.ids) == list(splits.val.ids)


# ---- missing modalities and weights


def test_a_missing_modality_is_zeros_and_says_so(written):
    text = written.read_text().replace("s/1.wav", "").replace("w/1.png", "").replace("v/9.mp4", "")
    path = write_csv(written.parent / "gaps", "")
    path.write_text(text)
    root = {"root": str(written.parent)}
    with pytest.raises(
        ManifestError, match="line 3, column audio:audio: empty; name a file, or say allow_missing=true"
    ):
        module(path, **root)
    splits = module(path, allow_missing=True, **root)
    for name, dataset, row, gone in (
        ("train", splits.train, 1, {"audio", "face"}),
        ("test", splits.test, 1, {"visual"}),
    ):
        here = dict(zip(dataset.modalities, dataset.present[row].tolist(), strict=True))
        assert {m for m, there in here.items() if not there} == gone, name
        for batch in (dataset.batch([0, row]), dataset.augment(dataset.batch([(0, 4), (row, 5)]), [4, 5])):
            assert all((batch.inputs[m][1] == 0).all() for m in gone)
            assert all(batch.inputs[m][0].any() for m in gone) and batch.present["words"].all()
    assert splits.train.report.notes["missing_audio"] == 1
    batches = list(Loader(splits.train, batch_size=3, seed=1).epoch(0))
    there = {int(i): bool(p) for b in batches for i, p in zip(b.index, b.present["audio"], strict=True)}
    assert there == {i: i != 1 for i in range(6)}
    for batch in batches:
        for m in splits.train.modalities:
            assert (batch.inputs[m][~batch.present[m]] == 0).all()


def test_weights_count_in_training_alone(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    text = "id,split,label,weight,a:npy,b:npy\n" + "".join(
        f"{i},{p},{'xy'[i % 2]},{w},x.npy,x.npy\n"
        for i, (p, w) in enumerate([("train", 2), ("train", 0.5), ("val", 1), ("test", 3)])
    )
    splits = module(write_csv(tmp_path, text))
    assert splits.train.batch([(0, 1), (1, 1)]).weight.tolist() == [2, 0.5] and splits.test.batch([0]).weight is None


# ---- the CSV in every spelling, and every mistake


GOOD = "id,split,label,a:npy,b:npy\n1,train,x,f.npy,f.npy\n2,test,x,f.npy,f.npy\n"
TWO = GOOD + "9,train,y,f.npy,f.npy\n"  # with the second class that training needs


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "\ufeff" + GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        "# mine\n\n  # of today\n" + GOOD.replace("\n", "\n\n"),
        GOOD.replace(",", " , "),
        GOOD.replace("label", "label,mood").replace(",x,", ",x,\"grey, 'blue'\","),
    ],
)
def test_every_spelling_is_read(tmp_path, text):
    path = tmp_path / "own.csv"
    path.write_bytes(text.encode())
    listing = read_manifest(path)
    assert listing.kinds == outline(path).kinds == {"a": "npy", "b": "npy"} and listing.classes == ("x",)
    assert [(s.id, s.split, s.label, s.files["b"]) for s in listing.samples] == [
        ("1", "train", "x", "f.npy"),
        ("2", "test", "x", "f.npy"),
    ]
    assert listing.unread == (("mood",) if "mood" in text else ())


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("", ManifestError, "line 1: no column id; begin like id,split,label"),
        (changed("split", "part"), ManifestError, "line 1: no column split"),
        (changed("b:npy", "b"), ManifestError, "line 1: 1 columns MODALITY:KIND, at least two"),
        (
            changed("b:npy", "b:vidoe"),
            ManifestError,
            "line 1, column b:vidoe: 'vidoe' is no kind of file; did you mean 'video'",
        ),
        (changed("b:npy", "b:flow"), ManifestError, "column b:flow: 'flow' is no kind of file; make features of it"),
        (changed("b:npy", "a:npy"), ManifestError, "line 1, column a:npy: twice"),
        (changed("b:npy", "../b:npy"), ManifestError, "line 1, column ../b:npy: '../b' is no name of a modality"),
        (changed("1,train", "1,Train"), ManifestError, "line 2, column split: 'Train'; did you mean 'train'?"),
        (changed("1,train", ",train"), ManifestError, "line 2, column id: empty; fill it in"),
        (changed("x,f.npy,f.npy\n2", "x,f.npy\n2"), ManifestError, "line 2: 4 fields, the header has 5"),
        (
            changed("x,f.npy,f.npy\n2", "x,/etc/f.npy,f.npy\n2"),
            ManifestError,
            "line 2, column a:npy: '/etc/f.npy' leads out",
        ),
        (
            changed("x,f.npy,f.npy\n2", "x,f.npy,a/../../f\n2"),
            ManifestError,
            "line 2, column b:npy: 'a/../../f' leads out",
        ),
        (changed("x,f.npy,f.npy\n2", "x,C:f.npy,f.npy\n2"), ManifestError, "'C:f.npy' leads out"),
        (changed("x,f.npy,f.npy\n2", "x,,\n2"), ManifestError, "line 2: no modality has a file; remove the row"),
        (
            changed("a:npy", "a:npz"),
            ManifestError,
            "line 2, column a:npz: 'f.npy' does not say which array; write f.npy#NAME",
        ),
        (changed("2,test", "1,train"), ManifestError, "line 3, column id: '1' is line 2 too"),
        (changed("2,test", "2,train"), ManifestError, "no row of test; add some"),
        (changed("2,test", "1,test"), SplitLeakError, "1 (lines 2 and 3: train and test) stands in two splits"),
        (
            changed("2,test,x", "2,test,X"),
            LabelError,
            "line 3, column label: 'X' is no class of train; did you mean 'x'?",
        ),
        (
            changed("label", "label,weight").replace(",x,", ",x,-1,"),
            ManifestError,
            "line 2, column weight: '-1' is not a number",
        ),
        (
            changed("label", "label,start,end").replace(",x,", ",x,2,1,"),
            ManifestError,
            "line 2, column end: 1 s is not behind start, 2 s",
        ),
        (changed("1,train", '"1,train'), ManifestError, "check its quotes"),
        ("\xff", ManifestError, "not UTF-8 text (byte 0); save it as UTF-8"),
    ],
)
def test_mistakes_are_named_with_line_and_column(tmp_path, text, kind, says):
    path = tmp_path / "own.csv"
    path.write_bytes(text.encode("latin1" if text == "\xff" else "utf-8"))
    with pytest.raises(kind) as error:
        read_manifest(path)
    assert says in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_all_mistakes_at_once_but_not_a_flood(tmp_path):
    path = write_csv(tmp_path, "id,split,label,a:npy,b:npy\n" + "".join(f"{i},tset,x,f,f\n" for i in range(50)))
    with pytest.raises(ManifestError) as error:
        read_manifest(path)
    assert str(error.value).count("did you mean 'test'?") == 10 and str(error.value).endswith("and 42 more")


def test_classes_come_from_a_list_or_a_number(tmp_path):
    path = write_csv(tmp_path, GOOD)
    (tmp_path / "classes.txt").write_text("y\nx\n")
    with pytest.raises(LabelError, match="no row of train has the label y"):
        read_manifest(path)
    path.write_text(GOOD.replace("2,test", "3,train,y,f.npy,f.npy\n2,test"))
    assert read_manifest(path).classes == ("y", "x")
    path.write_text(path.read_text().replace(",x,", ",1,").replace(",y,", ",0,"))
    assert read_manifest(path, classes=2).classes == ("0", "1")
    with pytest.raises(LabelError, match="no row of train has the label 2"):
        read_manifest(path, classes=3)


def test_there_is_a_line_for_no_csv_and_for_files_that_are_not_there(tmp_path):
    with pytest.raises(ManifestError, match=r"own\.csv: cannot be read .*say path=FILE\.csv") as error:
        Manifest.module(path=str(tmp_path / "own.csv"))
    assert "\n" not in str(error.value)
    path = write_csv(tmp_path, TWO)
    with pytest.raises(ManifestError, match="so none can be val"):
        module(path)
    path = write_csv(tmp_path, TWO + "10,val,y,f.npy,f.npy\n")
    with pytest.raises(MissingMediaError, match=r"8 files are not there: line 2, column a:npy: .*f\.npy"):
        module(path)
    with pytest.raises(DataError, match="manifest: no argument is called 'paht'; did you mean 'path'"):
        Manifest.module(paht="x")


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (lambda p: np.save(p, np.array([{}], object)), ManifestError, "numbers with at least one axis"),
        (lambda p: np.save(p, np.array(["a"])), ManifestError, "numbers with at least one axis"),
        (lambda p: np.save(p, np.float32(3)), ManifestError, "numbers with at least one axis"),
        (lambda p: np.save(p, np.zeros((0, 3))), ManifestError, "nothing empty"),
        (lambda p: np.save(p, np.zeros((5, 3))), ManifestError, r"line 2 is \(4, 3\), line 3 is \(5, 3\).*length=N"),
        (lambda p: np.save(p, np.full((4, 3), np.nan)), ManifestError, "12 of 12 numbers are not finite"),
        (lambda p: p.write_bytes(b"\x93NUMPY"), ManifestError, "not an array that can be read"),
        (lambda p: p.write_bytes(b""), ManifestError, "0 bytes"),
        (lambda p: p.write_bytes(p.read_bytes()[:-8]), ManifestError, "promises 96 bytes, 88 are there"),
        (
            lambda p: p.write_bytes(p.read_bytes().replace(b"(4, 3), }", b"(4, 9999999999999), }")),
            ManifestError,
            "not an array|more than the",
        ),
    ],
)
def test_arrays_that_are_none_are_refused_with_their_line(tmp_path, make, kind, says):
    for name in "fg":
        np.save(tmp_path / f"{name}.npy", np.zeros((4, 3)))
    make(tmp_path / "g.npy")
    path = write_csv(tmp_path, TWO.replace("2,test,x,f.npy,f.npy", "2,train,x,g.npy,f.npy\n3,test,x,f.npy,f.npy"))
    with pytest.raises(kind, match=says) as error:
        module(path)
    assert "line 3, column a:npy" in str(error.value) or "column a:npy: line 2" in str(error.value)
    assert "\n" not in str(error.value) and not list((tmp_path / "cache").glob("*/*/manifest.json"))


def test_arrays_of_several_lengths_are_cut_and_padded_if_asked(tmp_path):
    for i, n in enumerate((2, 4, 7)):
        np.save(tmp_path / f"{i}.npy", np.full((n, 3), i + 1, np.int16))
    text = "id,split,label,a:npy,b:npy\n0,train,x,0.npy,0.npy\n1,train,x,1.npy,1.npy\n2,test,x,2.npy,2.npy\n"
    text += "3,train,y,0.npy,0.npy\n"
    splits = module(write_csv(tmp_path, text), length=4)
    assert splits.test[0]["a"].tolist() == [[3] * 3] * 4 and splits.test.report.notes["arrays_cut"] == 2
    both = {name: splits.splits()[part][0]["a"] for part in ("train", "val") for name in splits.splits()[part].ids}
    assert both["0"].tolist() == [[1] * 3] * 2 + [[0] * 3] * 2


def test_numbers_that_are_not_finite_are_counted(tmp_path):
    values = np.ones((20, 10))
    values[3, 4] = -np.inf
    np.save(tmp_path / "f.npy", values)
    splits = module(write_csv(tmp_path, TWO.replace("2,test", "3,train,x,f.npy,f.npy\n2,test")))
    assert splits.test.report.notes["not_finite"] == 2 and splits.test[0]["a"][3, 4] == 0


@pytest.mark.parametrize(
    ("column", "name", "kind"),
    [("audio:audio", "s/1.wav", AudioDecodeError), ("visual:video", "v/1.mp4", VideoDecodeError),
     ("face:image", "w/1.png", VideoDecodeError)],
)  # fmt: skip
def test_a_broken_file_is_named_with_its_line(written, tmp_path, column, name, kind):
    (tmp_path / "own").symlink_to(written.parent)
    broken = tmp_path / "broken.bin"
    broken.write_bytes(b"no media at all" * 9)
    text = written.read_text().replace(name, f"x/{broken.name}")
    for part in "svw":
        text = text.replace(f",{part}/", f",own/{part}/")
    (tmp_path / "x").mkdir()
    broken.rename(tmp_path / "x" / broken.name)
    with pytest.raises(kind) as error:
        module(write_csv(tmp_path, text))
    assert f"line 3, column {column}: " in str(error.value) and "broken.bin" in str(error.value)
    assert "\n" not in str(error.value)
