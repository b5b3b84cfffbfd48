"""A hundred wrong inputs: one clear line each, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from tests.helpers.commands import SMALL, command, records, run_here, run_process
from tests.helpers.disks import disk

# What is typed, and what the line must say.
RUN = {
    "mehtod=ogm": "did you mean 'method'",
    "datset=synthav": "did you mean 'dataset'",
    "bach_size=3": "batch_size",
    "learning_rate=1": "no such setting",
    "method=ogmge": "did you mean 'ogm_ge'",
    "method=OGM": "not one of",
    "method=": "method",
    "method=3": "method",
    "method=[ogm]": "method",
    "dataset=cremad": "did you mean 'crema_d'",
    "dataset=synthav2": "did you mean 'synthav'",
    "fusion=flim": "did you mean 'film'",
    "fusion=concatenate": "not one of",
    "encoders.audio=resnet": "did you mean 'resnet50'",
    "encoders.audio=cnnn": "did you mean 'cnn'",
    "encoders.text=cnn": "it has audio, visual",
    "encoders=cnn": "encoders",
    "encoders.audio=4": "encoders.audio",
    "optimizer=sdg": "optimizer",
    "optimizer=lion": "optimizer",
    "schedule=linear": "schedule",
    "precision=fp16": "precision",
    "precision=half": "precision",
    "seed=-1": "seed",
    "seed=1.5": "seed",
    "seed=x": "seed",
    "epochs=-1": "epochs",
    "epochs=many": "epochs",
    "epochs=2.5": "epochs",
    "batch_size=0": "batch_size",
    "batch_size=-4": "batch_size",
    "batch_size=1.5": "batch_size",
    "batch_size=100000": "do not fill one batch",
    "lr=0": "lr",
    "lr=-0.1": "lr",
    "lr=nan": "lr",
    "lr=.inf": "lr",
    "lr=fast": "lr",
    "momentum=1": "momentum",
    "momentum=-0.1": "momentum",
    "weight_decay=-1": "weight_decay",
    "weight_decay=.inf": "weight_decay",
    "lr_steps=often": "lr_steps",
    "lr_factor=0": "lr_factor",
    "lr_factor=2": "lr_factor",
    "max_norm=0": "max_norm",
    "max_norm=-1": "max_norm",
    "micro_batch=0": "micro_batch",
    "micro_batch=half": "micro_batch",
    "protocol=1": "protocol",
    "method": "written name=value",
    "=3": "written name=value",
    "lr=[1": "not readable as YAML",
    "lr={": "not readable",
    "seed=[0, 1]": "seed",
    "method_args=3": "method_args",
    "dataset_args=x": "dataset_args",
    "method_args.alpha=1": "method_args.alpha: there is no such setting",
    "fusion_args.width=3": "fusion_args.width: there is no such setting",
    "encoder_args.text.widths=[8]": "no encoder for text",
    "encoder_args.audio.width=[8]": "did you mean 'widths'",
    "encoder_args.audio.widths=8": "widths",
    "encoder_args.audio.widths=[]": "widths",
    "encoder_args.audio.widths=[3]": "widths",
    "encoder_args.audio.widths=[-8]": "widths",
    "encoder_args.audio.widths=[a]": "widths",
    "dataset_args.preset=defualt": "did you mean",
    "dataset_args.p_audio=1.2": "p_audio",
    "dataset_args.p_audio=-1": "p_audio",
    "dataset_args.p_audoi=0.5": "did you mean",
    "dataset_args.num_train=0": "num_train",
    "dataset_args.num_train=-5": "num_train",
    "dataset_args.num_train=many": "num_train",
    "dataset_args.snr_db=[10, 0]": "snr_db",
    "dataset_args.data_seed=-1": "data_seed",
    "dataset_args.pixel_noise=-1": "pixel_noise",
}
METHODS = {
    ("ogm", "alpha=abc"): "alpha",
    ("ogm", "alpha=-1"): "alpha",
    ("ogm", "alhpa=0.3"): "did you mean 'alpha'",
    ("ogm", "alpha=nan"): "alpha",
    ("ogm", "scope=heads"): "scope",
    ("ogm", "target=loss"): "target",
    ("ogm", "multi=max"): "multi",
    ("ogm", "start=-1"): "start",
    ("ogm", "end=x"): "end",
    ("ogm", "start=9 end=3"): "window",
    ("ogm", "variant=fast"): "variant",
    ("ogm_ge", "noise=none"): "noise",
    ("ogm_ge", "alpha=[1]"): "alpha",
    ("ge_noise", "alpha=0.3"): "no such setting",
    ("weak_boost", "form=hard"): "form",
    ("weak_boost", "k_max=3"): "k_max",
    ("weak_boost", "parity=-1"): "parity",
    ("modality_dropout", "p=1"): "p=1",
    ("modality_dropout", "p=-0.1"): "p",
    ("modality_dropout", "p=often"): "p",
    ("modality_dropout", "p.text=0.5"): "no modality",
    ("static_lr", "factors=0.1"): "factors",
    ("static_lr", "factors.audio=-1"): "factors",
    ("static_lr", "factors.text=0.5"): "no modality",
    ("unimodal", "modality=text"): "there are audio, visual",
    ("unimodal", ""): "modality",
    ("ume", "rule=median"): "rule",
    ("equal_weight_multiloss", "heads=none"): "heads",
}
FUSIONS = {
    ("film", "target=text"): "there are audio, visual",
    ("gated", "width=0"): "width",
    ("gated", "value=x"): "value",
}
WORDS = {
    "compare methods=all,agmm": "agmm",
    "compare seeds=0": "seeds",
    "compare seeds=two": "seeds",
    "compare lr=-1": "lr",
    "reproduce --suite papr": "did you mean 'paper'",
    "reproduce --datasets vggsound": "has nothing on vggsound",
    "reproduce --datasets avmnist": "python -m datasets download avmnist",
    "run dataset=avmnist": "python -m datasets download avmnist",
    "run dataset=crema_d": "crema_d",
    "run --device cuda:77": "--device cuda:77",
    "run --device gpu": "--device gpu",
    "grid method=[ogm,nope]": "nope",
    "grid lr=[-1,0]": "lr",
    "tables nowhere": "no suite.json",
}
USAGE = [
    "",
    "train",
    "run --epochs 3",
    "run --threads 0",
    "run --threads x",
    "run --workers -1",
    "grid --jobs 0",
    "grid --jobs two",
    "reproduce --seeds 0",
    "reproduce --seeds x",
    "list",
    "list method",
    "tables",
]


def refused(argv: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines a command says, having checked that it says only errors, exits with 2 and writes nothing."""
    capsys.readouterr()
    assert main(argv) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert lines and all(line.startswith("error: ") for line in lines), captured.err
    left = [p for p in folder.rglob("*") if p.suffix in (".json", ".part", ".pt")]
    assert not [p for p in left if p.parent.name != "fingerprints"]  # what is known of generated data is of every run
    return lines


@pytest.fixture(autouse=True)
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "no-data"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "no-cache"))


def run_words(settings: list[str], folder: Path) -> list[str]:
    named = {s.partition("=")[0] for s in settings}
    small = [s for s in SMALL if not any(s.partition("=")[0] == n or s.startswith(f"{n}.") for n in named)]
    small = [s for s in small if not any(n.startswith(s.partition(".")[0]) and "." not in n for n in named)]
    short = [] if "epochs" in named else ["epochs=1"]
    return ["run", *small, *short, *settings, "--results", str(folder / "r"), "--work", str(folder / "w")]


@pytest.mark.parametrize("setting", RUN)
def test_settings(setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refused(run_words([setting], tmp_path), tmp_path, capsys)
    assert RUN[setting] in line


@pytest.mark.parametrize(("method", "option"), METHODS)
def test_options_of_methods(method: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"method={method}", *(f"method_args.{word}" for word in option.split())]
    (line,) = refused(run_words(settings, tmp_path), tmp_path, capsys)
    assert METHODS[method, option] in line


@pytest.mark.parametrize(("fusion", "option"), FUSIONS)
def test_options_of_fusions(fusion: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refused(run_words([f"fusion={fusion}", f"fusion_args.{option}"], tmp_path), tmp_path, capsys)
    assert FUSIONS[fusion, option] in line


@pytest.mark.parametrize("words", WORDS)
def test_commands(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verb, *rest = words.split()
    places = [] if verb == "tables" else ["--results", str(tmp_path / "r"), "--work", str(tmp_path / "w")]
    lines = refused([verb, *rest, *places], tmp_path, capsys)
    assert len(lines) == (2 if words == "grid lr=[-1,0]" else 1) and WORDS[words] in lines[0]


@pytest.mark.parametrize("words", USAGE)
def test_usage(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert stop.value.code == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("python -m benchmarks")


def test_all_mistakes_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = refused(run_words(["mehtod=ogm", "lr=-1", "fusion=flim"], tmp_path), tmp_path, capsys)
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("words", "say"),
    [
        ("run method=nope dataset=nah epochs=x", ["'nah'", "'nope'", "epochs='x'"]),
        (
            "run lr method=ogm method_args.alhpa=1 epochs=x --log nothing",
            ["'lr'", "epochs='x'", "--log: 'nothing'", "method_args.alhpa: there is no such setting; did you mean"],
        ),
        # nothing is said of the options of a method that there is not
        ("run method=nope method_args.alpha=1 fusion_args.k=3", ["'nope'", "fusion_args.k"]),
        ("grid method=[nope,ogm] fusoin=film epochs=[1,x] foo", ["'foo'", "'nope'", "'fusion'", "epochs='x'"]),
        ("compare methods=nope dataset=nah seeds=x epochs=y", ["seeds='x'", "'nah'", "epochs='y'", "'nope'"]),
        ("tune methods=ogm trials=x lr=-1 fusion_args.k=3", ["trials='x'", "lr=-1", "fusion_args.k"]),
    ],
)
def test_all_mistakes_of_a_command_line_at_once(
    words: str, say: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = refused([*words.split(), "--results", str(tmp_path / "r"), "--work", str(tmp_path / "w")], tmp_path, capsys)
    assert len(lines) == len(say), lines
    assert all(any(part in line for line in lines) for part in say), lines


def test_there_are_a_hundred_of_them() -> None:
    assert len(RUN) + len(METHODS) + len(FUSIONS) + len(WORDS) + len(USAGE) >= 100


# ---- places and files
@pytest.mark.parametrize("flag", ["--results", "--work"])
def test_folders_that_cannot_be_written(flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/results")):
        (line,) = refused(
            ["run", *SMALL, "--results", str(tmp_path / "r"), "--work", str(tmp_path / "w"), flag, str(place)],
            tmp_path,
            capsys,
        )
        assert str(place) in line


@pytest.mark.long
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    place = tmp_path / "small"
    with disk(place, "size=8k"):
        words = command("run", "epochs=2", folder=place)
        full = run_here(words)
        assert full.returncode == 2 and full.stderr.strip().startswith("error: "), full.stderr
        assert len(full.stderr.strip().splitlines()) == 1 and "No space left" in full.stderr
        assert not list(place.rglob("*.part")) and not records(place)
        subprocess.run(["mount", "-o", "remount,size=8m", str(place)], check=True)
        assert run_here(words).returncode == 0
        whole = tmp_path / "whole"
        assert run_here(command("run", "epochs=2", folder=whole)).returncode == 0
        assert records(place) == records(whole)


def test_a_read_only_disk(tmp_path: Path) -> None:
    place = tmp_path / "read-only"
    with disk(place, "ro,size=64k"):
        said = run_here(command("run", "epochs=1", folder=place))
        assert said.returncode == 2 and "Read-only file system" in said.stderr and len(said.stderr.splitlines()) == 1


@pytest.fixture
def half_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[list[str], Path]:
    """A run stopped after its second epoch, and its checkpoint."""
    import benchmarks.runner.checkpoint as module

    argv = ["run", *SMALL, "epochs=4", "--results", str(tmp_path / "r"), "--work", str(tmp_path / "w")]
    judge, count = module.RunState.save, []

    def stop(self: object) -> None:
        judge(self)  # type: ignore[arg-type]
        count.append(0)
        if len(count) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module.RunState, "save", stop)
        assert main(argv) == 130
    assert "goes on where this one was" in capsys.readouterr().err
    (checkpoint,) = tmp_path.rglob("checkpoint.pt")
    return argv, checkpoint


@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "text", "pickle"])
def test_damaged_checkpoints(
    damage: str, half_a_run: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    argv, checkpoint = half_a_run
    content = bytearray(checkpoint.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    wrong = {
        "empty": b"",
        "short": bytes(content[: len(content) // 2]),
        "flipped": bytes(content),
        "text": b"hello\n",
        "pickle": b"cos\nsystem\n(S'touch hacked'\ntR.",
    }[damage]
    checkpoint.write_bytes(wrong)
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and str(checkpoint) in line and "delete it" in line
    assert checkpoint.read_bytes() == wrong and not Path("hacked").exists()
    checkpoint.unlink()
    assert main(argv) == 0


def test_damaged_records_and_suites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["run", *SMALL, "epochs=1", "--results", str(tmp_path), "--work", str(tmp_path / "w")]
    assert main(argv) == 0
    (record,) = (tmp_path / "records").rglob("*.json")
    whole = json.loads(record.read_text())
    for wrong in ("[]", "{}", json.dumps({**whole, "more": 1}), json.dumps({**whole, "probe": {}})):
        record.write_text(wrong)
        capsys.readouterr()
        assert main(argv) == 2, wrong
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert str(record) in line and "delete it" in line
    for wrong in ("", "{", "\x00"):  # nothing that could be meant: kept aside, and made again
        record.write_text(wrong)
        assert main(argv) == 0, wrong
        assert "made again" in capsys.readouterr().err and record.with_name(f"{record.name}.truncated").exists()
    for wrong in ("", "{", "[]", "{}"):
        (tmp_path / "suite.json").write_text(wrong)
        assert main(["tables", str(tmp_path)]) == 2
        assert "suite.json" in capsys.readouterr().err


def test_a_diverged_run_is_shown_as_diverged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["run", *SMALL, "epochs=3", "lr=1e30", "--results", str(tmp_path / "r"), "--work", str(tmp_path / "w")]
    assert main(argv) == 1
    (record,) = (json.loads(p.read_text()) for p in (tmp_path / "r").rglob("*.json"))
    assert record["status"] == "diverged" and "stopped being finite at step" in record["reason"] and not record["test"]
    assert "diverged" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "r")
    assert main([*argv, "--debug"]) == 2
    assert "not finite at step" in capsys.readouterr().err


def test_no_traceback_in_a_real_process(tmp_path: Path) -> None:
    said = run_process(command("run", "mehtod=ogm", folder=tmp_path))
    assert said.returncode == 2 and said.stderr == "error: mehtod: there is no such setting; did you mean 'method'?\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["compare", "grid"])
def test_data_that_are_not_there_are_said_once_not_run_by_run(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    assert main([verb, "dataset=avmnist", "--results", str(tmp_path / "results")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "python -m datasets download avmnist" in line
    assert not (tmp_path / "results").exists()
