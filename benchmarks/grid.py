"""Many runs: what is done is skipped, what others build on comes first, and one that fails does not stop the rest."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from benchmarks.build import Refused, needed
from benchmarks.config import ConfigError, RunConfig
from benchmarks.log import Board, Mirror
from benchmarks.plugins import register
from benchmarks.record import RunRecord
from benchmarks.run import Damaged, Place, run
from datasets.errors import DataError

_SPAWN = multiprocessing.get_context("spawn")  # fork and torch's threads do not go together


def launch(configs: Sequence[RunConfig], place: Place, *, jobs: int) -> list[RunRecord]:
    """The record of every configuration, and of those they build on; ``jobs`` processes, each making run after run.

    A run that cannot be made is a record as well: ``skipped`` where the combination is refused, ``failed`` for
    everything else. Only ``done`` is not tried again the next time. Raises OSError if records cannot be written.
    """
    unfinished = [c for c in configs if place.finished(c) is None]  # only these need what they build on
    needs: dict[str, list[RunConfig]] = {}
    first: dict[str, RunConfig] = {}
    while unfinished:
        config = unfinished.pop()
        needs[config.key] = list(needed(config).values())
        fresh = {n.key: n for n in needs[config.key] if n.key not in first}
        first |= fresh
        unfinished += [n for n in fresh.values() if place.finished(n, export=True) is None]  # and what they build on
    plan = {**first, **{c.key: c for c in configs}}
    records = {key: found for key, c in plan.items() if (found := place.finished(c, export=key in first))}
    waiting = [c for key, c in plan.items() if key not in records]
    with Board(len(plan), len(records)) as board:
        team = [_Worker(place) for _ in range(min(jobs, len(waiting)))]
        try:
            while waiting or any(w.config for w in team):
                for config in list(waiting):
                    vain = _in_vain(config, needs, records)
                    if vain is not None:
                        waiting.remove(config)
                        vain.save(place.results)
                        records[config.key] = vain
                        board.finish(config, vain)
                for worker in (w for w in team if w.config is None):
                    ready = next((c for c in waiting if all(n.key in records for n in needs.get(c.key, ()))), None)
                    if ready is not None:
                        waiting.remove(ready)
                        worker.give(ready, export=ready.key in first)
                for worker in _stirred(team):
                    event, about = worker.hear()
                    if event == "warning":
                        board.say(f"warning: {about['text']}")
                    elif event == "broken":
                        raise about["error"]
                    elif event == "record":
                        made, worker.config = worker.config, None
                        assert made is not None
                        records[made.key] = about["record"]
                        board.finish(made, about["record"])
                    elif worker.config is not None:
                        board.hear(worker.config, event, about)
        finally:
            for worker in team:
                worker.stop()
    return [records[key] for key in plan]


def _in_vain(
    config: RunConfig, needs: Mapping[str, Sequence[RunConfig]], records: Mapping[str, RunRecord]
) -> RunRecord | None:
    """The record of a run that builds on one that could not be made; that one is not tried again for each of them."""
    for need in needs.get(config.key, ()):
        record = records.get(need.key)
        if record is not None and record.status != "done":
            status = "skipped" if record.status == "skipped" else "failed"
            return _unmade(config, status, f"builds on {need.title}, which {record.status}: {record.reason}")
    return None


class _Worker:
    """A process that makes one run after the other, and says how it is getting on."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.config: RunConfig | None = None
        self._start()

    def _start(self) -> None:
        self.line, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_work, args=(self.place, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, config: RunConfig, *, export: bool) -> None:
        self.config = config
        self.line.send((config.model_dump(), export))

    def hear(self) -> tuple[str, dict[str, Any]]:
        """What the process says next; if it died, a record that says how, and a new process in its place."""
        try:
            event: tuple[str, dict[str, Any]] = self.line.recv()
            return event
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            assert self.config is not None
            record = _unmade(self.config, "failed", f"the process that made this run died ({how}); out of memory?")
            record.save(self.place.results)
            self._start()
            return "record", {"record": record}

    def stop(self) -> None:
        self.line.close()
        self.process.terminate()
        self.process.join()


def _stirred(team: Sequence[_Worker]) -> list[_Worker]:
    """Those that have something to say."""
    by_line = {worker.line: worker for worker in team if worker.config is not None}
    if not by_line:  # wait would wait for ever
        return []
    return [by_line[line] for line in wait(list(by_line)) if isinstance(line, Connection)]


def _work(place: Place, line: Connection) -> None:
    """The worker process: a configuration in, events and a record out. It ends when nobody listens any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the one who started us
    register(place.files)
    mirror = Mirror(place.work / "wandb", place.group, lambda text: line.send(("warning", {"text": text})))
    while True:
        try:
            settings, export = line.recv()
        except (EOFError, ConnectionResetError):
            return
        config = RunConfig(**settings)

        def listen(event: str, about: Any, config: RunConfig = config) -> None:
            mirror.hear(config, event, about)
            if event != "done" and event != "start":
                line.send((event, about))
            elif event == "start":
                line.send((event, {"epoch": about["epoch"], "epochs": about["epochs"]}))

        try:
            line.send(("record", {"record": attempt(config, place, export, listen)}))
        except BrokenPipeError:
            os._exit(1)  # whoever started us is gone: the checkpoint is safe
        except OSError as error:
            line.send(("broken", {"error": error}))


def attempt(config: RunConfig, place: Place, export: bool, listen: Any) -> RunRecord:
    """``run``, with a record in place of an error. A disk that cannot be written to remains an error."""
    try:
        return run(config, place, export=export, listen=listen)
    except Refused as error:
        record = _unmade(config, "skipped", str(error))
    except (ConfigError, DataError, Damaged) as error:
        record = _unmade(config, "failed", str(error))
    except OSError:
        raise
    except Exception as error:  # a fault of ours or of a method's: shown, recorded, and the other runs go on
        where = place.folder(config) / "error.txt"
        where.write_text(traceback.format_exc())
        record = _unmade(config, "failed", f"{type(error).__name__}: {' '.join(str(error).split())} (see {where})")
    record.save(place.results)
    return record


def _unmade(config: RunConfig, status: Any, reason: str) -> RunRecord:
    return RunRecord(
        key=config.key, config=config.model_dump(mode="json"), status=status, reason=" ".join(reason.split())
    )


def writable(folder: Path) -> None:
    """Raises OSError now, not after an hour, if nothing can be written below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".{os.getpid()}.part"
    probe.write_text("")
    probe.unlink()
