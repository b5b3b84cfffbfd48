"""CMU-MOSI and CMU-MOSEI: pickles of every protocol, nothing run that they ask for, labels, scaling, an epoch."""

import io
import pickle
import pickletools

import numpy as np
import pytest
import torch

from benchmarks.config.run_config import configure
from benchmarks.runner.build import build
from benchmarks.runner.experiment import resolve
from datasets.cmu_mosei import CMUMOSEI
from datasets.cmu_mosi import CMUMOSI, classify, scaling, sums
from datasets.core.errors import CacheError, DataError, ManifestError, MissingMediaError, UnsafePickleError
from datasets.core.loader import Loader
from datasets.decode.safe_pickle import read_pickle

N = {"train": 18, "valid": 5, "test": 6}
WIDTH = {"text": 7, "audio": 3, "vision": 4}


@pytest.fixture(autouse=True)
def raw(tmp_path, monkeypatch):
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    for name in ("cmu_mosi", "cmu_mosei"):
        (tmp_path / "raw" / name).mkdir(parents=True)
    return tmp_path / "raw"


def content(seed: int = 0, ids: str = "bytes", steps: int = 6) -> dict:
    """As the published files: padding on the left, labels (N, 1, 1), ids (N, 3) of bytes (MOSI) or texts (MOSEI)."""
    rng = np.random.default_rng(seed)
    data = {}
    for part, n in N.items():
        fields = {m: rng.normal(2, 3, (n, steps, d)).astype(np.float32) for m, d in WIDTH.items()}
        for x in fields.values():
            for i in range(n):
                x[i, : i % 4] = 0
        labels = rng.choice([-3, -1.4, -0.4, 0, 0.2, 1, 2.6], n)
        some = [-3, 0, 1, 2.6, -1.4, -0.4, 1.4][:n]
        labels[: len(some)] = some
        fields["labels"] = labels.astype(np.float32).reshape(n, 1, 1)
        names = [[f"video{i}", "0.1", "2.3"] for i in range(n)]
        if ids == "bytes":
            fields["id"] = np.array(names).astype("S8")
        elif ids == "object":
            fields["id"] = np.array(names, dtype=object)
        data[part] = fields
    return data


def write(raw, data, name="cmu_mosi/mosi_data.pkl", protocol=2):
    (raw / name).write_bytes(pickle.dumps(data, protocol=protocol))
    return raw / name


@pytest.mark.parametrize("ids", ["bytes", "object", "none"])
@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_are_read_as_pickle_reads_them(raw, protocol, ids):
    data = content(ids=ids)
    data["test"]["audio"] = data["test"]["audio"].astype(">f8")
    data["test"]["text"] = np.asfortranarray(data["test"]["text"])
    found = read_pickle(write(raw, data, protocol=protocol))
    for part, fields in data.items():
        assert found[part].keys() == fields.keys()
        for name, x in fields.items():
            np.testing.assert_array_equal(found[part][name], x.astype(str) if ids == "object" and name == "id" else x)


def test_what_python_2_and_newer_numpy_write(raw):
    """Texts that are bytes, and arrays in the order of memory, whatever the order of their axes."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02K\x01\x86"
        b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x08\x00\x00\x80?\x00\x00\x20\xc1tb"
    )
    (raw / "python2.pkl").write_bytes(b"\x80\x02}U\x05train}U\x04text" + array + b"ss.")
    np.testing.assert_array_equal(read_pickle(raw / "python2.pkl")["train"]["text"], [[1.0], [-10.0]])
    some = np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2)
    np.testing.assert_array_equal(read_pickle(write(raw, {"a": {"b": some}}, protocol=5))["a"]["b"], some)
    empty = read_pickle(write(raw, {"a": {"b": np.zeros((0, 4))}}, protocol=2))["a"]["b"]
    assert empty.shape == (0, 4)


class Evil:
    def __reduce__(self):
        return print, ("this must never be seen",)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (Evil(), "builtins.print"),
        ({"train": {"text": Evil()}}, "builtins.print"),
        (np.array([Evil()], dtype=object), "builtins.print"),
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"\x80\x02cnumpy.core.multiarray\nfromfile\n.", "numpy.core.multiarray.fromfile"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "posix.system"),
        (b"\x80\x02\x82\x07.", "the extension 7"),
        (b"P1\n.", "an object outside of it"),
        (torch.zeros(2), "torch"),
    ],
)
def test_a_pickle_that_asks_for_more_is_refused_before_it_runs(raw, capsys, data, says):
    path = raw / "cmu_mosi" / "mosi_data.pkl"
    path.write_bytes(data if isinstance(data, bytes) else pickle.dumps(data))
    for read in (read_pickle, lambda _: CMUMOSI.prepare(progress=False)):
        with pytest.raises(UnsafePickleError) as error:
            read(path)
        assert says in str(error.value) and "\n" not in str(error.value)
    assert capsys.readouterr().out == "" and not list((raw.parent / "cache").glob("*/*/manifest.json"))


def array(**state: object) -> bytes:
    """A pickle of one array whose state is not numpy's."""
    real = {"version": 1, "shape": (2,), "dtype": np.dtype("<f4"), "fortran": False, "data": b"\0" * 8, **state}
    out = io.BytesIO()

    class Pickler(pickle.Pickler):
        def reducer_override(self, obj):
            if isinstance(obj, np.ndarray):
                return np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b"b"), tuple(real.values())
            return NotImplemented

    Pickler(out, 2).dump({"train": {"text": np.zeros(2)}})
    pickletools.dis(out.getvalue(), io.StringIO())
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        pickle.dumps(content())[:-20],
        pickle.dumps([1, 2]),
        pickle.dumps({"train": {"text": {1: 2}}}),
        pickle.dumps({"train": 3}),
        array(data=b"\0" * 7),
        array(shape=(1 << 40,)),
        array(shape=(-2,)),
        array(shape="x"),
        array(dtype=np.dtype([("a", "<f4")])),
        array(dtype=None),
        array(dtype=np.dtype("O"), data=[[1], [2]]),
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes of the largest size there is
        b"\x80\x02]r\xff\xff\xff\x7f.",  # remembered under the largest number there is
    ],
)
def test_a_damaged_pickle_is_one_line(raw, data):
    path = raw / "cmu_mosi" / "mosi_data.pkl"
    path.write_bytes(data)
    with pytest.raises(ManifestError, match=r"not a pickle of arrays|0 bytes") as error:
        read_pickle(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def changed(part: str, name: str, how) -> dict:
    data = content()
    data[part][name] = how(data[part][name])
    return data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({k: v for k, v in content().items() if k != "valid"}, "valid has no text, audio, vision, labels"),
        (changed("test", "audio", lambda x: None), "test has no audio"),
        (changed("test", "audio", lambda x: x[:-1]), r"audio of test is float32 \(5, 6, 3\) beside 6 labels"),
        (changed("test", "text", lambda x: x[..., :-1]), "alike in all splits"),
        (changed("train", "text", lambda x: x.astype("S4")), "text of train is"),
        (changed("train", "labels", lambda x: x * 2), "labels of train are not one number from -3 to 3"),
        (
            changed("train", "labels", lambda x: np.full_like(x, np.nan)),
            "labels of train are not one number from -3 to 3",
        ),
        (changed("valid", "vision", lambda x: np.full_like(x, np.inf)), "of 120 numbers are not finite"),
        (changed("train", "labels", lambda x: np.array(1.0)), "not a filled array with axes"),
    ],
)
def test_contents_that_cannot_be_are_named(raw, data, says):
    write(raw, data)
    with pytest.raises(DataError, match=says) as error:
        CMUMOSI.prepare(progress=False)
    assert "mosi_data.pkl" in str(error.value) and not list((raw.parent / "cache").glob("*/*/manifest.json"))


def test_samples_are_scaled_by_train_and_padding_stays_zero(raw):
    data = content()
    data["train"]["audio"][5, 4, 1] = -np.inf
    data["test"]["text"][2] = 0
    data["test"]["text"][1, 5, 0] = 1e6
    write(raw, data)
    CMUMOSI.prepare(progress=False)
    splits = CMUMOSI.module()
    assert [len(s) for s in splits.splits().values()] == list(N.values())
    assert splits.train.report.notes["audio_not_finite"] == 1 and splits.test.report.notes["text_empty"] == 1
    train = splits.train.batch(range(18)).inputs
    for m, field in (("text", "text"), ("audio", "audio"), ("visual", "vision")):
        steps = torch.from_numpy(data["train"][field].astype(np.float32)).ne(0).any(-1)
        assert train[m].shape == data["train"][field].shape and train[m].dtype == torch.float32
        assert (train[m][~steps] == 0).all()
        torch.testing.assert_close(train[m][steps].mean(0), torch.zeros(train[m].shape[-1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            train[m][steps].std(0, correction=0), torch.ones(train[m].shape[-1]), atol=1e-4, rtol=0
        )
    test = splits.test.batch([1, 2]).inputs["text"]
    assert float(test[0].max()) == 10 and not test[1].any()
    plain = CMUMOSI.module(normalise=False).test
    np.testing.assert_array_equal(plain[3]["text"].numpy(), data["test"]["text"][3])
    assert plain[3]["id"] == "video3 3" and plain.fingerprint != splits.test.fingerprint
    assert CMUMOSI.module(label="seven").test.cache.folder == plain.cache.folder  # prepared once for all labels


def test_names_of_any_form_are_taken_or_made_up(raw):
    data = content()
    data["train"]["id"] = np.array([f"film {i}" for i in range(18)], dtype=object)
    data["valid"]["id"] = [f"film {i}" for i in range(5)]
    data["test"]["id"] = np.zeros((6, 0))
    write(raw, data)
    CMUMOSI.prepare(progress=False)
    splits = CMUMOSI.module()
    assert [s.ids[3] for s in splits.splits().values()] == ["film 3 3", "film 3 3", "test 3"]


def test_sums_and_scaling_by_hand():
    x = np.zeros((2, 3, 2), np.float32)
    x[0, 2], x[1, 1], x[1, 2] = (1, 5), (2, 5), (3, 5)
    three = sums(x)
    assert three.tolist() == [[3, 3], [6, 15], [14, 75]]
    mean, std = scaling(three)
    torch.testing.assert_close(mean, torch.tensor([2.0, 5.0]))
    torch.testing.assert_close(std, torch.tensor([(2 / 3) ** 0.5, 1.0]))  # what does not vary is left alone


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("nonneg", [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]),
        ("pos", [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]),
        ("seven", [0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6]),
        ("three", [0, 0, 0, 0, 2, 2, 2, 1, 1, 1, 1]),
    ],
)
def test_sentiments_become_classes(label, expected):
    assert classify(np.array([-3, -2.1, -2, -1, -0.5, 0, 0.5, 1, 2, 2.1, 3]), label).tolist() == expected


def test_neutral_samples_can_be_left_out(raw):
    data = content()
    write(raw, data)
    CMUMOSI.prepare(progress=False)
    for part, theirs in (("train", "train"), ("test", "test")):
        some = CMUMOSI.module(label="exclude_zero").splits()[part]
        kept = np.flatnonzero(data[theirs]["labels"].reshape(-1))
        assert len(some) == len(kept) < N[theirs] and some.report.notes["neutral_left_out"] == N[theirs] - len(kept)
        assert some.labels == (data[theirs]["labels"].reshape(-1)[kept] > 0).astype(int).tolist()
        assert some.ids[-1] == f"video{kept[-1]} {kept[-1]}"
        assert torch.equal(some[1]["text"], CMUMOSI.module().splits()[part][int(kept[1])]["text"])


def test_one_file_of_two_is_enough_and_the_other_is_named(raw):
    write(raw, content(steps=9), "cmu_mosei/mosei_senti_data_noalign.pkl")
    with pytest.raises(
        MissingMediaError, match=r"mosei_senti_data\.pkl is not there: put it there, or say aligned=false"
    ):
        CMUMOSEI.prepare(progress=False)
    CMUMOSEI.prepare(progress=False, aligned=False)
    assert CMUMOSEI.module(aligned=False).test[0]["visual"].shape == (9, 4)
    assert "mosi_data.pkl" in CMUMOSI.download() and CMUMOSEI.download() == ""


def test_three_modalities_train_from_the_device_with_the_recipe(raw):
    write(raw, content())
    CMUMOSI.prepare(progress=False)
    config = configure({"dataset": "cmu_mosi", "method": "ogm_ge", "batch_size": 6})
    assert set(config.encoders) == {"text", "audio", "visual"}
    engine = build(resolve(config), device="cpu")
    engine.train_epoch()
    assert all(p.isfinite().all() for p in engine.parameters)
    data = CMUMOSI.module().train
    held, mapped = (list(Loader(data, batch_size=6, seed=1, resident=r).epoch(0)) for r in (1 << 30, 0))
    assert all(
        torch.equal(a.inputs[m], b.inputs[m]) for a, b in zip(held, mapped, strict=True) for m in data.modalities
    )


def test_another_file_is_noticed(raw):
    write(raw, content())
    CMUMOSI.prepare(progress=False)
    before = CMUMOSI.module()
    write(raw, changed("train", "text", lambda x: x[::-1]))
    with pytest.raises(CacheError, match=r"raw files of 3 of 3 \(train, val, test\) have changed"):
        CMUMOSI.module()
    CMUMOSI.prepare(progress=False)
    after = CMUMOSI.module()
    assert all(part.fingerprint != before.splits()[name].fingerprint for name, part in after.splits().items())
    (raw / "cmu_mosi" / "mosi_data.pkl").unlink()
    assert CMUMOSI.module() is after
