"""What a file of a record may hold: what its run wrote, in its place. All else gets one line, or is made again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.config.run_config import RunConfig, configure, key_of, parse
from benchmarks.records import suite_file
from benchmarks.records.record import SINCE_2, RunRecord, canonical, read_whole
from benchmarks.records.suite_file import Recorded
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.experiment import resolve
from benchmarks.runner.run import run
from tests.helpers.commands import SMALL
from tests.helpers.records import record, small, stopped

OLD = {"options": {}, "prediction": "", "modalities": [], "scores": {}, "logits": {}}
CONFIG = configure({"method": "ogm_ge", "epochs": 4})


def signed(path: Path, content: dict[str, Any]) -> None:
    """Write it with a digest that fits, as somebody might who means to deceive."""
    content = {k: v for k, v in content.items() if k != "digest"}
    text = canonical(content)
    path.write_text(json.dumps({**content, "digest": hashlib.sha256(text.encode()).hexdigest()}))


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    for made in (
        record(CONFIG),
        stopped(CONFIG, "diverged", "the loss was not finite"),
        stopped(CONFIG, "skipped", "no"),
    ):
        assert RunRecord.load(made.save(tmp_path)) == made


def test_every_digit_that_changes_a_number_is_noticed(tmp_path: Path) -> None:
    path = record(CONFIG, 0.8125).save(tmp_path)
    text = path.read_text()
    places = [i for i, c in enumerate(text) if c.isdigit()]
    for i in places[:: max(len(places) // 200, 1)]:
        other = f"{text[:i]}{(int(text[i]) + 1) % 10}{text[i + 1 :]}"
        path.write_text(other)
        if json.loads(other) == json.loads(text):  # the seventeenth digit of a number may not matter
            continue
        with pytest.raises(ValueError) as error:
            RunRecord.load(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    path.write_text(text)
    assert RunRecord.load(path).test["last"]["accuracy"] == 0.8125


def _set(*where: Any) -> Callable[[Any], None]:
    """Put the last of these at the place that the others name."""

    def change(content: Any) -> None:
        for name in where[:-2]:
            content = content[name]
        content[where[-2]] = where[-1]

    return change


WRONG = {
    "an accuracy above 1": (_set("test", "last", "accuracy", 7), "test.last is not what its curves have"),
    "a curve above 1": (_set("curves", "val/accuracy", 0, 7.0), "curves.val/accuracy has 7.0"),
    "text for a number": (_set("test", "last", "accuracy", "0.8"), "test.last.accuracy"),
    "a probe above 1": (_set("probe", "audio", 1.5), "probe.audio"),
    "a ragged curve": (lambda c: c["curves"]["test/loss"].pop(), "curves.test/loss has 3 epochs, not 4"),
    "a curve that is too long": (lambda c: c["curves"]["test/loss"].append(0.1), "longer than its 4 epochs"),
    "all curves too short": (lambda c: [x.pop() for x in c["curves"].values()], "has 3 epochs, not 4"),
    "no curve to select by": (lambda c: c["curves"].pop("val/accuracy"), "no val/accuracy"),
    "an epoch outside": (_set("selected", "val_best", 4), "not among its 4"),
    "another last epoch": (_set("selected", "last", 2), "not the last"),
    "an epoch that is not the best": (
        lambda c: (
            _set("selected", "test_best", 0)(c),
            c["test"].update(test_best={n[5:]: x[0] for n, x in c["curves"].items() if n.startswith("test/")}),
        ),
        "selected.test_best is not epoch 1, which is the best",
    ),
    "test numbers of another epoch": (lambda c: c["test"].update(last=c["test"]["val_best"]), "at epoch 3"),
    "a folder for a name": (_set("config", "method", "../ogm"), "config.method is '../ogm', which is no name"),
    "a wrong key": (_set("key", "0123456789ab"), "its key"),
    "another configuration": (_set("config", "lr", 0.04), "its key"),
    "no seed": (lambda c: c["config"].pop("seed"), "config.seed: is missing"),
    "an unknown field": (_set("acuracy", 1), "acuracy"),
    "an unknown status": (_set("status", "well"), "status"),
    "no test numbers": (_set("test", {}), "selected and test"),
    "a report without counts": (_set("data", "report", {"test": {}}), "data.report.test.listed: is missing"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_is_refused_even_with_a_digest_that_fits(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, said = WRONG[what]
    path = record(CONFIG).save(tmp_path)
    content = json.loads(path.read_text())
    change(content)
    signed(path, content)
    with pytest.raises(ValueError) as error:
        RunRecord.load(path)
    assert said in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)
    assert main(["run", "method=ogm_ge", "epochs=4", "--results", str(tmp_path), "--work", str(tmp_path / "w")]) == 2
    assert str(path) in capsys.readouterr().err and json.loads(path.read_text())["digest"] != ""


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(number: str, tmp_path: Path) -> None:
    path = record(CONFIG, 0.8125).save(tmp_path)
    path.write_text(path.read_text().replace("0.8125", number))
    with pytest.raises(ValueError, match="cannot be used"):
        RunRecord.load(path)


def test_a_copy_under_another_name_is_refused(tmp_path: Path) -> None:
    path = record(CONFIG).save(tmp_path)
    for other in (path.with_name("1" + path.name[1:]), tmp_path / "records" / "synthav" / "concat" / "ogm" / path.name):
        other.parent.mkdir(exist_ok=True)
        shutil.copy(path, other)
        with pytest.raises(ValueError, match="it is a copy: its own place is records/synthav/concat/ogm_ge"):
            RunRecord.load(other)


def test_the_key_of_a_recorded_configuration_is_that_of_its_run() -> None:
    for given in (
        {},
        {"method": "ogm", "lr": 1, "lr_steps": [3]},
        {"encoder_args.audio.widths": [8, 8], "max_norm": 1},
    ):
        config = configure(given)
        assert key_of(config.model_dump(mode="json")) == config.key == RunConfig(**config.model_dump(mode="json")).key
    assert RunConfig(protocol=1).key == "44136fa355b3"
    earlier = {**configure({"dataset": "avmnist", "epochs": 5}).model_dump(mode="json"), "protocol": 1}
    assert key_of(earlier) == "5986f201f535"


def test_protocol_1_does_not_answer_for_protocol_2(tmp_path: Path) -> None:
    """Every key differs, and the records of protocol 1 stay as they were: no field that they did not have."""
    now = configure(parse([*SMALL, "epochs=4"]))
    earlier = RunConfig(**{**now.model_dump(), "protocol": 1})
    assert earlier.key != now.key
    path = record(earlier).save(tmp_path)
    assert not json.loads(path.read_text()).keys() & set(SINCE_2) and RunRecord.load(path).protocol == 1
    place = RunEnvironment(tmp_path, tmp_path / "w")
    assert place.finished(resolve(now)) is None
    assert run(now, place).protocol == 2 and RunRecord.load(path) == record(earlier, first_final_epoch=0, **OLD)


@pytest.mark.parametrize("piece", [0, 1, 100, -2])
def test_a_truncated_record_is_kept_aside_and_made_again(
    piece: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, "epochs=1", "--results", str(tmp_path), "--work", str(tmp_path / "w")]
    assert main(["run", *words]) == 0
    (path,) = (tmp_path / "records").rglob("*.json")
    whole = path.read_text()
    path.write_text(whole[:piece])
    suite_file.save(tmp_path, Recorded({"suite": {"name": "small", "quick": False}}, small()))
    assert main(["tables", str(tmp_path)]) == 2
    assert "is not a whole record" in capsys.readouterr().err and path.read_text() == whole[:piece]
    assert main(["run", *words]) == 0
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("warning")]
    assert str(path) in line and "made again" in line
    assert RunRecord.load(path).test == json.loads(whole)["test"]
    assert path.with_name(f"{path.name}.truncated").read_text() == whole[:piece]


def test_a_record_from_before_digests_is_refused(tmp_path: Path) -> None:
    path = record(CONFIG).save(tmp_path)
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "digest"}))
    with pytest.raises(ValueError, match="it has no digest"):
        read_whole(path)
