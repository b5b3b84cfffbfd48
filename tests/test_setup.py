"""make setup: which build of torch it takes, that both lists hold the same versions, that hashes are checked."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from benchmarks import torch_build
from tests import cpu_requirements as lists
from tests.helpers.servers import serving

ROOT = Path(__file__).resolve().parents[1]
TORCH = ("torch", "torchaudio", "torchvision")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def serving_files(folder: Path) -> Iterator[str]:
    """Serve the files of a folder. Gives the address."""
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as httpd, serving(httpd) as address:
        yield address


def a_wheel(folder: Path, name: str, version: str) -> tuple[str, str]:
    """Write an empty package's wheel. Returns the name of the file and its sha256."""
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path.name, hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_list_for_cpus_is_the_other_one_without_cuda() -> None:
    assert lists.FOR_CPUS.read_text("utf-8") == lists.written(), "python -m tests.cpu_requirements"
    usual, cpus = (lists.packages(path.read_text("utf-8")) for path in (lists.WITH_CUDA, lists.FOR_CPUS))
    only = {lists.name_of(package) for package in set(usual) - set(cpus)}
    assert {name for name in only if not re.match(r"(cuda|nvidia)-", name)} == {*TORCH, "triton"}
    assert {lists.name_of(package) for package in set(cpus) - set(usual)} == set(TORCH)
    pins = {name: [p.split()[0] for p in usual if lists.name_of(p) == name] for name in TORCH}
    assert all(f"{pins[name][0]}+cpu" in [p.split()[0] for p in cpus] for name in TORCH)
    assert all("--hash=sha256:" in package for package in cpus)


def test_the_build_goes_by_gpu_server_and_wish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_build.platform, "system", lambda: "Linux")
    monkeypatch.setattr(torch_build, "has_gpu", lambda: False)
    with serving_files(tmp_path) as address:
        assert torch_build.choose("auto", None, address)[0] == "cpu"
        build, reason = torch_build.choose("auto", None, f"{address}/absent/")
        assert (build, "404" in reason) == ("cuda", True)
        assert torch_build.choose("auto", "cuda", address) == ("cuda", "the environment has it")
        assert torch_build.choose("cuda", "cpu", address)[0] == "cuda"
        monkeypatch.setattr(torch_build, "has_gpu", lambda: True)
        assert torch_build.choose("auto", None, address)[0] == "cuda"
    monkeypatch.setattr(torch_build, "has_gpu", lambda: False)
    build, reason = torch_build.choose("auto", None, address)  # nobody listens there any more
    assert (build, "refused" in reason) == ("cuda", True)


def test_a_server_that_does_not_answer_is_given_up() -> None:
    with HTTPServer(("127.0.0.1", 0), Quiet) as silent:  # takes connections, and answers none
        error = torch_build.unreachable(f"http://127.0.0.1:{silent.server_port}/", seconds=0.2)
    assert error in ("no answer within 0.2 s", "timed out")


def test_a_gpu_is_seen_by_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(Path("/dev").glob("nvidia[0-9]*")):
        assert torch_build.has_gpu()
    else:
        driver = tmp_path / "nvidia-smi"
        monkeypatch.setenv("PATH", str(tmp_path))
        assert not torch_build.has_gpu()
        for code, seen in ((9, False), (0, True)):
            driver.write_text(f"#!/bin/sh\nexit {code}\n")
            driver.chmod(0o755)
            assert torch_build.has_gpu() is seen


def test_a_wish_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert torch_build.main("gpu") == 2
    assert capsys.readouterr().err == "error: TORCH_BUILD=gpu: give cpu, cuda or auto\n"


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Carry out make setup in a folder, with pip, which looks at no index."""
    path = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if not shutil.which("uv", path=p))
    env = {**os.environ, "PATH": path, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(
        ["make", "--no-print-directory", "setup", f"PYTHON={sys.executable}", *words],
        cwd=folder, env=env, capture_output=True, text=True, timeout=280,
    )  # fmt: skip


@pytest.mark.long  # makes two environments
@pytest.mark.timeout(900)
def test_setup_refuses_a_wrong_hash_keeps_the_build_and_changes_it_when_asked(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    for name in ("Makefile", "benchmarks/torch_build.py"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    with serving_files(tmp_path) as address:

        def require(name: str, version: str, sha256: str = "") -> None:
            server = tmp_path / version
            server.mkdir(exist_ok=True)
            wheel, digest = a_wheel(server, "torch", version)
            (server / "index.html").write_text(f'<a href="{wheel.replace("+", "%2B")}">{wheel}</a>')
            lines = f"--find-links {address}/{version}/\ntorch=={version} --hash=sha256:{sha256 or digest}\n"
            (clone / name).write_text(lines)

        require("requirements.txt", "2.11.0")
        require("requirements-cpu.txt", "2.11.0+cpu", "0" * 64)
        refused = make(clone, "TORCH_BUILD=cpu")
        assert refused.returncode == 2 and "DO NOT MATCH THE HASHES" in refused.stderr
        assert not (clone / ".venv/.ready").exists()

        require("requirements-cpu.txt", "2.11.0+cpu")
        done = make(clone)  # goes on with the build that it began with
        assert done.returncode == 0 and "torch for CPUs alone: the environment has it" in done.stderr
        installed = clone / ".venv/lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        assert [p.name for p in installed.glob("torch-*")] == ["torch-2.11.0+cpu.dist-info"]
        assert make(clone).stdout == make(clone, "TORCH_BUILD=cpu").stdout == ""

        changed = make(clone, "TORCH_BUILD=cuda")
        assert changed.returncode == 0 and "torch with CUDA: TORCH_BUILD=cuda" in changed.stderr
        assert [p.name for p in installed.glob("torch-*")] == ["torch-2.11.0.dist-info"]
        assert (clone / ".venv/bin/ogm-bench").is_symlink()
