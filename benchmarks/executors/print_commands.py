"""Runs written down, not carried out: one command line each, for a scheduler or another machine."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from benchmarks.config.run_config import RunConfig, configure, parse
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import Event, RunDeferred
from benchmarks.runner.plan import Job


class PrintCommands:
    """Writes a command line for each job, and makes nothing.

    Carried out in their order, the lines make the runs that the grid would have made. Those that others build on come
    first, and leave their weights behind for them.

    Args:
        environment: Where and how the commands make the runs.
        write: Receives each line.
    """

    slots = 1

    def __init__(self, environment: RunEnvironment, write: Callable[[str], object] = print) -> None:
        self._environment, self._write = environment, write
        self._queue: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        """Queue a job. Its line is written while ``events`` is read."""
        self._queue.append(job)

    def events(self) -> Iterator[Event]:
        """A ``RunDeferred`` for each job, once its line is written."""
        while self._queue:
            job = self._queue.popleft()
            config = RunConfig(**job.config)
            self._write(command_line(config, self._environment, export=job.export))
            yield RunDeferred(job.key, config)

    def close(self) -> None:
        """Forget what is queued."""
        self._queue.clear()


def command_line(config: RunConfig, environment: RunEnvironment, *, export: bool = False) -> str:
    """The command that makes exactly this run.

    Args:
        config: The run.
        environment: Where and how the command makes it.
        export: It leaves the trained weights behind.

    Returns:
        One line for a shell.

    Raises:
        ValueError: No command line can say this configuration.
    """
    words = settings(config)
    if configure(parse(words)).key != config.key:
        raise ValueError(f"{config.title}: this run cannot be written as a command line")
    flags = ["--results", str(environment.results), "--work", str(environment.work), "--device", environment.device]
    flags += ["--threads", str(environment.threads), "--workers", str(environment.workers)]
    switches = {"--debug": environment.debug, "--overwrite": environment.overwrite, "--export-weights": export}
    flags += [flag for flag, on in switches.items() if on]
    for kind, path in environment.files:
        flags += [f"--{kind}-file", str(path)]
    return shlex.join(["python", "-m", "benchmarks", "run", *words, *flags])


def settings(config: RunConfig) -> list[str]:
    """Every setting of a configuration, as ``name=value`` words that do not lean on any default."""
    words = []
    for name, value in config.model_dump(mode="json", exclude={"files", "protocol"}).items():
        if isinstance(value, Mapping):
            words += [f"{name}.{inner}={_as_yaml(x)}" for inner, x in value.items()]
        else:
            words.append(f"{name}={_as_yaml(value)}")
    return words


def _as_yaml(value: Any) -> str:
    """A value in one line of YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
