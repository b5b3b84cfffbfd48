"""UCI Multiple Features: tables in both forms, splits that keep copies together, standardised by train; an epoch."""

import gzip
import hashlib
import io
import json
import math
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from benchmarks.config.run_config import configure
from benchmarks.config.suite import compare, load
from benchmarks.runner.build import build
from benchmarks.runner.experiment import resolve
from datasets.core.errors import CacheError, LabelError, ManifestError, MissingMediaError
from datasets.mfeat import ARCHIVE, SAMPLES, VIEWS, MFeat, read_view, scaling
from tests.helpers import clips
from tests.helpers.shared_media import shared

COPIES = ((1148, 1172), (605, 774))
CONSTANT = 3  # a feature of fou


@pytest.fixture(scope="module")
def values():
    """Small whole numbers around one that tells the class; some rows twice, and a feature that does not vary."""
    rng = np.random.default_rng(0)
    found = {
        view: rng.integers(0, 9, (SAMPLES, width)) + np.arange(SAMPLES)[:, None] // 200 for view, width in VIEWS.items()
    }
    for table in found.values():
        for one, other in COPIES:
            table[other] = table[one]
    found["fou"][:, CONSTANT] = 7
    return found


@pytest.fixture(scope="module")
def tables(values):
    """Name -> text, as the archive has them."""
    return {f"mfeat-{view}": "".join("  " + "  ".join(map(str, row)) + "\n" for row in table.tolist()).encode()
            for view, table in values.items()}  # fmt: skip


@pytest.fixture(scope="module")
def raw(tables, tmp_path_factory):
    """The tables, unpacked as the archive has them."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "mfeat" / "mfeat").mkdir(parents=True)
    for name, text in tables.items():
        (folder / "mfeat" / "mfeat" / name).write_bytes(text)
    return folder


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OGM_DATA", str(raw))
        patch.setenv("OGM_CACHE", str(tmp_path_factory.mktemp("cache")))
        MFeat.prepare(progress=False)
        yield raw


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder for raw files."""
    monkeypatch.setenv("OGM_DATA", str(tmp_path))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mfeat").mkdir()
    return tmp_path / "mfeat"


def row_of(sample: str) -> int:
    return 200 * int(sample[0]) + int(sample[2:])


def module(**args):
    return MFeat.module(**args).splits()


# ---- splits


def test_the_fixed_split_is_by_the_digest_of_the_name(prepared):
    copy_of = {f"{a // 200}-{a % 200:03}": f"{b // 200}-{b % 200:03}" for x in COPIES for a, b in (x, x[::-1])}
    expected: dict[str, set[str]] = {"test": set(), "val": set(), "train": set()}
    for digit in range(10):
        order = sorted((hashlib.sha256(f"mfeat-v1|{digit}-{i:03}".encode()).hexdigest(), i) for i in range(200))
        left = [f"{digit}-{i:03}" for _, i in order]
        for part, percent in (("test", 20), ("val", 10), ("train", 100)):
            taken = left[: len(left) * percent // 100]
            expected[part] |= {*taken, *(copy_of[name] for name in taken if name in copy_of)}
            left = [name for name in left if name not in expected[part]]
    splits = module()
    assert {part: set(s.ids) for part, s in splits.items()} == expected
    assert all(list(s.ids) == sorted(s.ids) for s in splits.values())


@pytest.mark.parametrize(
    "args", [{}, *({"folds": 5, "fold": f} for f in range(5)), {"folds": 2, "split_seed": 7}], ids=str
)
def test_parts_are_disjoint_stratified_and_keep_copies_together(prepared, args):
    splits = module(**args)
    rows = {part: {row_of(name) for name in s.ids} for part, s in splits.items()}
    assert sum(map(len, rows.values())) == SAMPLES == len(set().union(*rows.values()))
    for pair in COPIES:
        assert any(set(pair) <= part for part in rows.values())
    for split in splits.values():
        counts = np.bincount(split.labels, minlength=10)
        assert max(counts) - min(counts) <= 3 and split.report.per_class["3"] == counts[3]


def test_every_sample_is_tested_once_over_the_folds(prepared):
    tests = [name for fold in range(5) for name in module(folds=5, fold=fold)["test"].ids]
    assert len(tests) == SAMPLES == len(set(tests))
    fingerprints = [module(folds=5, fold=f)["train"].fingerprint for f in range(2)] + [module()["train"].fingerprint]
    assert len(set(fingerprints)) == 3


def test_a_comparison_takes_five_folds():
    (row,) = compare({"dataset": "mfeat"}, ["vanilla"], 6).tables[0].rows
    args = [config.dataset_args for config in row.configs]
    assert [(a["folds"], a["fold"], a["split_seed"]) for a in args] == [*((5, f, 0) for f in range(5)), (5, 0, 1)]
    for chosen, folds in (({"folds": 3}, [0, 1]), ({"folds": 5, "fold": 2}, [2, 2]), ({"folds": None}, [None, None])):
        (row,) = compare({"dataset": "mfeat", "dataset_args": chosen}, ["vanilla"], 2).tables[0].rows
        assert [c.dataset_args.get("fold") for c in row.configs] == folds


def test_it_joins_the_tables_of_the_paper():
    tables = load("paper", datasets=["mfeat"]).tables
    assert [t.slug for t in tables] == ["table2_views-mfeat", "table6-mfeat"]
    labels = [row.label for row in tables[0].rows]
    assert labels[:7] == [*(f"{view} only" for view in VIEWS), "vanilla"] and "ogm_ge" in labels
    for row in (row for table in tables for row in table.rows):
        assert [(c.dataset_args["folds"], c.dataset_args["fold"], c.seed) for c in row.configs] == [
            (5, f, 0) for f in range(5)
        ]
        resolve(row.configs[0])  # the method is there, and takes what it is given


# ---- samples


def test_samples_are_standardised_by_the_training_rows_alone(prepared, values):
    for args in ({}, {"folds": 5, "fold": 4}):
        splits = module(**args)
        train = splits["train"]
        seen = train.batch(range(len(train)))
        assert seen.label.tolist() == train.labels and list(seen.inputs) == list(VIEWS)
        for view, width in VIEWS.items():
            x = seen.inputs[view]
            assert x.shape == (len(train), 1, width) and x.dtype == torch.float32
            varies = torch.tensor([not (view == "fou" and i == CONSTANT) for i in range(width)])
            torch.testing.assert_close(x.mean((0, 1)), torch.zeros(width), atol=1e-5, rtol=0)
            torch.testing.assert_close(x.std((0, 1), correction=0), varies.float(), atol=1e-5, rtol=0)
        test, mine = splits["test"], values["fac"][[row_of(n) for n in train.ids]]
        item = test[5]
        expected = (values["fac"][row_of(item["id"])] - mine.mean(0)) / mine.std(0)
        torch.testing.assert_close(item["fac"][0], torch.tensor(expected, dtype=torch.float32))
        assert item["label"] == int(item["id"][0]) and torch.equal(item["fac"], test.batch([9, 5]).inputs["fac"][1])


def test_a_feature_without_variance_in_train_is_zero_everywhere():
    mean, factor = scaling(np.array([[0.1, 1.0], [0.1, 3.0], [0.1, 5.0]]))
    assert factor[0] == 0 and (np.array([9.0, 3.0]) - mean)[0] * factor[0] == 0
    assert mean[1] == 3 and factor[1] == pytest.approx(1 / np.sqrt(8 / 3))


def test_statistics_are_part_of_the_recipe(prepared):
    one, other = (module(folds=5, fold=f)["train"].recipe for f in (0, 1))
    assert one["standardised"] != other["standardised"] and (one["folds"], one["fold"]) == (5, 0)
    assert "folds" not in module()["train"].recipe and len(one["standardised"]) == 12


def test_it_trains(prepared):
    engine = build(resolve(configure({"dataset": "mfeat", "method": "ogm_ge", "method_args": {"alpha": 0.8}})))
    engine.train_epoch()
    assert all(math.isfinite(x) for values in engine.curves.values() for x in values)
    engine.model.eval()
    for part in engine.loaders.values():
        right = torch.cat([engine.model(b.inputs).logits.argmax(1) == b.label for b in part.all()])
        assert len(right) == part.num_samples and right.float().mean() > 0.3


# ---- files


def test_both_forms_hold_the_same_numbers(raw, values, tmp_path):
    for view in ("mor", "fou"):
        table, lines = values[view], [",".join(map(str, range(VIEWS[view]))) + ",0"]
        lines += [",".join(map(str, [*row, i // 200])) for i, row in enumerate(table.tolist())]
        path = tmp_path / f"mfeat-{view}.csv"
        path.write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n\r\n").encode())
        assert np.array_equal(read_view(path, view), table)
        assert np.array_equal(read_view(raw / "mfeat" / "mfeat" / f"mfeat-{view}", view), table)


def mor(change=lambda rows: rows, header="0,1,2,3,4,5,0") -> bytes:
    rows = change([["1", "0", "0", "133.15", "1.3117", "1620.2", str(i // 200)] for i in range(SAMPLES)])
    return "\n".join([header, *map(",".join, rows)]).encode()


def at(row, column, text):
    def change(rows):
        rows[row][column] = text
        return rows

    return change


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        (mor(at(7, 3, "many")), ManifestError, "line 9: could not convert string to float: 'many'"),
        (mor(at(7, 3, "nan")), ManifestError, "line 9: a number is not finite"),
        (mor(at(0, 0, "1e999")), ManifestError, "line 2: a number is not finite"),
        (mor(at(7, 3, "1,2")), ManifestError, "line 9: 8 fields, expected 7"),
        (mor(lambda rows: rows[:-1]), ManifestError, "has 1999 rows of numbers, expected 2000"),
        (mor(at(1999, 6, "8")), LabelError, "line 2001: the label is 8, expected 9"),
        (mor(lambda rows: rows[::-1]), LabelError, "line 2: the label is 9, expected 0"),
        (b"\xff\xfe" + mor(), ManifestError, "is not text"),
        (b" " * (9 << 20), ManifestError, "it is not the table"),
        (b"", ManifestError, "has 0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\n", ManifestError, "a git-lfs pointer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_tables_are_one_line(tmp_path, content, error, reason):
    path = tmp_path / "mfeat-mor.csv"
    path.write_bytes(content)
    with pytest.raises(error, match=reason) as refused:
        read_view(path, "mor")
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_missing_tables_and_changed_ones_are_named(prepared, place, tables, capsys, monkeypatch):
    for name in list(tables)[:-1]:
        (place / name).write_bytes(tables[name])
    assert "mfeat is not prepared" in clips.refusal(capsys, "prepare", "mfeat")
    with pytest.raises(MissingMediaError, match="1 of 6 are missing: mfeat-mor; put them into"):
        MFeat.scan(MFeat.options({}))
    monkeypatch.setenv("OGM_CACHE", str(place.parent / "cache"))
    (place / "mfeat-mor").write_bytes(tables["mfeat-mor"])
    MFeat.prepare(progress=False)
    (place / "mfeat-mor").write_bytes(tables["mfeat-mor"].replace(b"  3", b"  4", 1))
    with pytest.raises(CacheError, match=r"raw files of 1 of 6 \(mor\) have changed"):
        MFeat.module()


# ---- download


def packed(tables, folder="", tar="") -> bytes:
    """UCI's archive: the tables, or a tar with them."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("mfeat.info", "about")
        if tar:
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as packed_tar:
                for name, text in tables.items():
                    info = tarfile.TarInfo(f"mfeat/{name}")
                    info.size = len(text)
                    packed_tar.addfile(info, io.BytesIO(text))
            plain = inner.getvalue()
            archive.writestr(f"{folder}{tar}", gzip.compress(plain, 1) if tar.endswith("gz") else plain)
        else:
            for name, text in tables.items():
                archive.writestr(f"{folder}{name}", text)
    return out.getvalue()


@pytest.mark.parametrize(("folder", "tar"), [("", ""), ("mfeat/", ""), ("", "mfeat.tar"), ("mfeat/", "mfeat.tar.gz")])
def test_it_downloads_and_is_locked(place, tables, capsys, folder, tar):
    with clips.server({ARCHIVE.name: packed(tables, folder, tar)}) as base:
        assert clips.main(["download", "mfeat", "--base", f"{base}/good"]) == 0
        out, err = capsys.readouterr()
        assert "now run `python -m datasets prepare mfeat`" in out and "no published checksum: trusted now" in err
        assert {p.name: p.read_bytes() for p in place.glob("mfeat-*")} == tables
        assert list(json.loads((place / "archives.lock.json").read_text())) == [ARCHIVE.name]
        before = sorted(p.name for p in place.iterdir())
        assert clips.main(["download", "mfeat", "--base", f"{base}/404"]) == 0  # nothing is asked for again
        assert (
            sorted(p.name for p in place.iterdir()) == before == sorted([*tables, ARCHIVE.name, "archives.lock.json"])
        )


def test_downloads_that_fail_leave_no_table(place, tables, capsys, monkeypatch):
    monkeypatch.setattr(clips.download, "PAUSE", 0.01)
    one = {name: text for name, text in tables.items() if name != "mfeat-zer"}
    files = {
        "good": packed(tables),
        "less": packed(one),
        "bad": packed({**tables, "mfeat-zer": b"1 2\n"}),
        "text": b"?",
    }
    locked = ["archives.lock.json", ARCHIVE.name]
    for kind, reason, kept in (
        ("less", "mfeat-zer is not in it", locked),
        ("bad", "has 1 rows of numbers", locked),
        ("text", "no zip", []),
    ):
        with clips.server({ARCHIVE.name: files[kind]}) as base:
            assert reason in refused(capsys, f"{base}/good")
        assert sorted(p.name for p in place.iterdir()) == kept
        shutil.rmtree(place)
    with clips.server({ARCHIVE.name: files["good"]}) as base:
        for kind, reason in clips.BAD.items():
            if kind != "wrong":  # there is no digest by which to tell
                assert reason in refused(capsys, f"{base}/{kind}")


def refused(capsys, base) -> str:
    """The last line of a download that fails; before it may stand what was trusted."""
    assert clips.main(["download", "mfeat", "--base", base]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ") and all("trusted now" in line for line in lines[:-1])
    return lines[-1]


def test_an_archive_that_was_published_anew_is_not_taken_silently(place, tables, capsys):
    with clips.server({ARCHIVE.name: packed(tables)}) as base:
        assert clips.main(["download", "mfeat", "--base", f"{base}/good"]) == 0
        for path in place.glob("m*"):
            path.unlink()
    with clips.server({ARCHIVE.name: packed({**tables, "mfeat-zer": tables["mfeat-zer"] + b"\n"})}) as base:
        assert "remove the entry multiple+features.zip from" in refused(capsys, f"{base}/good")
    assert [p.name for p in place.iterdir()] == ["archives.lock.json"]


def test_the_published_tables(place):
    """The real ones: their widths, their classes, and the digits that are in them twice."""
    for path in shared("data", "mfeat").glob("*.csv"):
        shutil.copy(path, place)
    MFeat.prepare(progress=False)
    splits = module()
    assert [len(s) for s in splits.values()] == [1439, 159, 402]
    every = {view: read_view(place / f"mfeat-{view}.csv", view) for view in VIEWS}
    assert every["pix"].max() == 6 and every["mor"][0].tolist() == [1, 0, 0, 133.15, 1.3117, 1620.2]
    assert len(np.unique(np.concatenate(list(every.values()), axis=1), axis=0)) == SAMPLES - 6
    parts = {row_of(name): part for part, s in splits.items() for name in s.ids}
    for one, other in ((1148, 1172), (605, 774), (1892, 1999), (1237, 1271), (1448, 1521), (1265, 1272)):
        assert parts[one] == parts[other]
