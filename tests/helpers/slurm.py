"""A real Slurm of one node on this machine: munged, slurmctld and slurmd, with every file in a folder of its own.

``python -m tests.helpers.slurm COMMAND...`` carries out a command that finds it; without Slurm, the command alone.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.executors.base import Executor
from benchmarks.runner.environment import RunEnvironment

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
PATIENCE = 60  # seconds for anything that Slurm itself does
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdTimeout=8
KillWait=2
MessageTimeout=10
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
NodeName={host} CPUs={cpus} CoresPerSocket={cpus} RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why no Slurm can be started here, in a few words; empty if it can."""
    absent = [name for name in PROGRAMS if _program(name) is None]
    return f"Slurm is not installed here ({', '.join(absent)})" if absent else ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


class Slurm:
    """A running Slurm. Programs that this process starts find it by SLURM_CONF.

    Args:
        folder: Where its configuration, state and logs go.
        cpus: How many the node is said to have.
    """

    def __init__(self, folder: Path, cpus: int) -> None:
        self.folder = folder
        self.host = socket.gethostname().partition(".")[0]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        text = CONFIGURATION.format(
            host=self.host,
            folder=folder,
            cpus=cpus,
            user=pwd.getpwuid(os.getuid()).pw_name,
            controller_port=_free_port(),
            node_port=_free_port(),
        )
        (folder / "slurm.conf").write_text(text)

    def start(self) -> None:
        """Start the three daemons, and wait until the node takes jobs."""
        kept = {name: f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "seed", "pid", "log")}
        self._start("munged", "--foreground", f"--socket={self.folder}/munge.socket", *kept.values())
        wait_until(lambda: (self.folder / "munge.socket").exists(), "munged")
        self.start_slurmctld()
        self.start_slurmd()

    def start_slurmctld(self) -> None:
        """Start the controller, and wait until it answers."""
        self._start("slurmctld", "-D")
        wait_until(lambda: self.ask("scontrol", "ping").find("UP") >= 0, "slurmctld")

    def start_slurmd(self) -> None:
        """Start the node's daemon, and wait until the node takes jobs."""
        self._start("slurmd", "-D")
        wait_until(lambda: self.node_state() in ("idle", "mixed", "allocated"), "slurmd")

    def kill(self, name: str) -> None:
        """SIGKILL to ``slurmctld`` or ``slurmd``. What a node was running goes on without its slurmd."""
        process = self._processes.pop(name)
        process.kill()
        process.wait(PATIENCE)

    def node_state(self) -> str:
        """What ``sinfo`` says of the node: idle, mixed, allocated, down, ..."""
        return self.ask("sinfo", "--noheader", "--format=%T").rstrip("*\n")

    def states(self) -> dict[str, str]:
        """The state of each job that Slurm remembers, by its id (``12_0`` within an array)."""
        lines = self.ask("squeue", "--noheader", "--array", "--states=all", "--format=%i %T").splitlines()
        return {name: state for name, _, state in (line.partition(" ") for line in lines)}

    def running(self) -> list[str]:
        """The ids of the jobs that run."""
        return [name for name, state in self.states().items() if state == "RUNNING"]

    def scancel(self, *words: str) -> None:
        """Call ``scancel`` with these words."""
        subprocess.run(["scancel", *words], check=True, capture_output=True, timeout=PATIENCE)

    def stop(self) -> None:
        """End all jobs, then the daemons."""
        if {"slurmctld", "slurmd"} <= self._processes.keys():
            self.ask("scancel", f"--user={os.getuid()}")
            over = {"RUNNING", "PENDING", "COMPLETING"}
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: not over & set(self.states().values()), "the end of all jobs", 20)
        for process in reversed(self._processes.values()):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(PATIENCE)

    def _start(self, name: str, *words: str) -> None:
        program = _program(name)
        assert program is not None
        with (self.folder / f"{name}.out").open("ab") as out:
            self._processes[name] = subprocess.Popen([program, *words], stdout=out, stderr=out, start_new_session=True)

    @staticmethod
    def ask(*words: str) -> str:
        """What a command of Slurm prints; nothing if Slurm does not answer."""
        try:
            return subprocess.run(words, capture_output=True, text=True, timeout=20).stdout
        except subprocess.TimeoutExpired:
            return ""


@functools.cache
def shared_slurm() -> Slurm:
    """A Slurm that all tests of this process share, and that ends with it. Skips the test where there is none."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    if reason := missing():
        pytest.skip(reason)
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(slurm())


def slurm_executor(environment: RunEnvironment) -> Executor:
    """An executor on the shared Slurm."""
    shared_slurm()
    from benchmarks.executors.slurm import SlurmExecutor

    return SlurmExecutor(environment, 2, {"time": 60, "cpus_per_task": 1})


def worker_process(number: str) -> int | None:
    """The process on this machine that Slurm has started for a job and that makes its runs: its number."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or belongs to somebody else
            if b"submitit.core._submit" not in (entry / "cmdline").read_bytes().split(b"\0")[3:4]:
                continue
            variables = dict(x.split(b"=", 1) for x in (entry / "environ").read_bytes().split(b"\0") if b"=" in x)
            task = variables.get(b"SLURM_ARRAY_TASK_ID")
            job = variables[b"SLURM_JOB_ID"] if task is None else variables[b"SLURM_ARRAY_JOB_ID"] + b"_" + task
            if job.decode() == number:
                return int(entry.name)
    return None


@contextlib.contextmanager
def slurm(cpus: int = 2) -> Iterator[Slurm]:
    """A Slurm for the length of a context, which SLURM_CONF names meanwhile."""
    before = os.environ.get("SLURM_CONF")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)  # munged wants its socket to be within everybody's reach
    engine = Slurm(folder, cpus)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(folder, ignore_errors=True)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Wait for a condition. Raises TimeoutError, which says what did not happen."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: nothing within {seconds:.0f} seconds")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


if __name__ == "__main__":
    with contextlib.nullcontext() if missing() else slurm():
        sys.exit(subprocess.run(sys.argv[1:], check=False).returncode)
