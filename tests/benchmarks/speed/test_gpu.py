"""The bench for a GPU, on the CPU: all its code up to the device, tiny; and what it makes of CUDA's numbers."""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from benchmarks.__main__ import main
from benchmarks.config.run_config import configure, parse
from benchmarks.runner.experiment import resolve_all
from benchmarks.speed import gpu, gpu_runs, gpu_steps, steps
from models.registry import FUSIONS

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def torch_settings() -> Iterator[None]:
    """The bench sets them for its processes; here they are put back."""
    before, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(before)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True


@pytest.fixture
def asked(tmp_path: Path) -> gpu_steps.Asked:
    return gpu.asked_for("cpu", tmp_path)


@pytest.mark.long
def test_steps_of_every_method_and_precision(asked: gpu_steps.Asked) -> None:
    plan = gpu_steps.step_times(asked)
    assert list(plan) == ["fp32, batch 4", "tf32, batch 4", "bf16, batch 4"]
    rows = plan["bf16, batch 4"]()
    assert list(rows) == ["vanilla, bf16, batch 4", "ogm, bf16, batch 4"]
    assert rows["vanilla, bf16, batch 4"]["x_vanilla"] == 1
    assert all(float(str(row["ms_per_step"])) > 0 for row in rows.values())


@pytest.mark.long
def test_what_only_cuda_can_tell_is_left_empty(asked: gpu_steps.Asked) -> None:
    row = gpu_steps.launches(asked)["ogm, tf32"]()["ogm, tf32"]
    assert row == {"launches": None, "ms_busy": None, "share_busy": None}
    assert gpu_steps.synchronisations(asked)["ogm"]()["ogm"] == {"in_3_steps": None, "says_so": False, "first_at": ""}


def test_deterministic_algorithms_have_three_modes(asked: gpu_steps.Asked) -> None:
    rows = gpu_steps.determinism(asked)["tf32"]()
    assert len(rows) == 3 and rows["as runs are, tf32, batch 4"]["x_as_runs"] == 1


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_precision_is_torchs_setting_and_the_runs(precision: str) -> None:
    assert gpu_steps.with_precision(precision).precision == {"bf16": "bf16"}.get(precision, "fp32")
    assert torch.are_deterministic_algorithms_enabled()
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    assert allowed == (precision == "tf32",) * 2


def event(name: str, device: DeviceType, us: float = 5.0, *, annotation: bool = False) -> SimpleNamespace:
    """An event as torch's profiler has it."""
    span = SimpleNamespace(elapsed_us=lambda: us)
    return SimpleNamespace(name=name, device_type=device, is_user_annotation=annotation, time_range=span)


def test_launches_and_the_devices_time_are_summed() -> None:
    host = ["aten::mm", "cudaLaunchKernel", "cuLaunchKernelEx", "cudaLaunchKernelExC_v11060", "cudaMemcpyAsync"]
    host += ["cudaMemsetAsync", "cudaGraphLaunch", "cudaLaunchCooperativeKernel", "cudaStreamSynchronize", "cudaMalloc"]
    events = [event(name, DeviceType.CPU) for name in host]
    events += [event("sgemm", DeviceType.CUDA, 100), event("Memset (Device)", DeviceType.CUDA, 20)]
    events += [event("Optimizer.step#SGD.step", DeviceType.CUDA, 1e6, annotation=True)]
    assert gpu_steps.summed(events) == (7, pytest.approx(120e-6))


def test_torchs_profiler_has_events_of_that_kind() -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profiled:
        torch.ones(3, 3) @ torch.ones(3, 3)
    events = profiled.events()
    assert events is not None and gpu_steps.summed(events) == (0, 0.0)


def test_where_the_host_waits_is_said_by_file_and_line() -> None:
    with gpu_steps.host_waits(on_gpu=False) as places:
        warnings.warn("called a synchronizing CUDA operation (Triggered internally)", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    (place,) = places
    path, _, line = place.rpartition(":")
    assert "called a synchronizing" in (ROOT / path).read_text("utf-8").splitlines()[int(line) - 1]


def test_every_method_waits_or_not_and_is_run_twice(tmp_path: Path) -> None:
    asked = gpu.asked_for("cuda", tmp_path)
    timed, others = gpu_runs.same_bits(asked)
    assert timed.startswith("methods") and others.startswith("other")
    assert gpu_steps.synchronisations(asked).keys() == steps.methods().keys()
    runs = [[f"method={method}"] for method in asked.methods] + list(asked.other_runs.values())
    configs = [configure(parse([*asked.runs, *settings])) for settings in runs]
    assert {c.method for c in configs} == steps.methods().keys() - steps.FORMS.keys()
    assert {c.fusion for c in configs} == set(FUSIONS)
    assert [e.config.method for e in resolve_all(configs) if e.error is not None] == []


def test_the_shares_leave_room_in_ten_minutes() -> None:
    assert sum(part.share for part in gpu.PARTS) <= 570


@pytest.mark.parametrize(
    ("device", "name"), [("NVIDIA H200", "NVIDIA-H200"), ("Tesla T4 (16GB) / µ", "Tesla-T4-16GB"), ("../x", "x")]
)
def test_a_device_names_its_file(device: str, name: str) -> None:
    assert gpu.file_name(device) == name


def test_what_should_not_be_is_said() -> None:
    outcomes = {
        "synchronisations": {
            "rows": {
                "ogm": {"in_3_steps": 2, "says_so": False},
                "agm": {"in_3_steps": 0, "says_so": False},
                "lfm": {"in_3_steps": 1, "says_so": True},
                "cpu": {"in_3_steps": None, "says_so": False},
            }
        },
        "bits": {"rows": {"a": {"same_bits": False, "status": "done"}, "b": {"same_bits": True, "status": "failed"}}},
        "loading": {"rows": {"0": {"share_busy": 0.4}, "8": {"share_busy": 0.93}}},
    }
    ends = [line.rpartition(": ")[2] for line in gpu.verdict(outcomes)]
    assert ends == ["ogm", "a", "b", "93%"]
    outcomes = {name: {"rows": {}} for name in outcomes}
    assert [line.rpartition(": ")[2] for line in gpu.verdict(outcomes)] == ["none"] * 3 + ["-"]


@pytest.mark.parametrize(("device", "commands"), [("cuda", 1), ("cuda:1", 1), ("cpu", 3), ("", 3)])
def test_make_bench_of_a_gpu_is_one_command(device: str, commands: int) -> None:
    words = ["make", "-n", "bench", *([f"DEVICE={device}"] if device else [])]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if "-m benchmarks bench" in line]
    assert len(lines) == commands
    assert (f"bench --gpu --device {device}" in lines[0]) == (commands == 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here: make bench DEVICE=cuda")
def test_without_a_gpu_there_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--gpu", "--device", "cuda"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.long
@pytest.mark.timeout(570 * gpu.PATIENCE)
def test_the_whole_bench_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--gpu", "--device", "cpu", "--out", str(tmp_path / "new" / "found.json")]) == 0
    found = json.loads((tmp_path / "new" / "found.json").read_text("utf-8"))
    out = capsys.readouterr().out
    assert list(found["parts"]) == [part.name for part in gpu.PARTS]
    for part in gpu.PARTS:
        made = found["parts"][part.name]
        assert made["rows"] and not made["left_out"]
        assert part.title in out
    assert all(row["same_bits"] and row["status"] == "done" for row in found["parts"]["bits"]["rows"].values())
