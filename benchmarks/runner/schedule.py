"""Many runs: what is done is skipped, what others build on comes first, and one that fails does not stop the rest."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from benchmarks.callbacks.progress import Board, Mirror
from benchmarks.config.run_config import ConfigError, RunConfig
from benchmarks.config.user_files import register
from benchmarks.records.record import RunRecord, Unwritable, write_whole
from benchmarks.records.store import find_record
from benchmarks.runner.distributed import is_first_rank
from benchmarks.runner.experiment import Refused, is_too_short, needed
from benchmarks.runner.run import Damaged, Listener, Place, run
from datasets.core.errors import DataError

_SPAWN = multiprocessing.get_context("spawn")  # fork and torch's threads do not go together


def launch(configs: Sequence[RunConfig], place: Place, *, jobs: int) -> list[RunRecord]:
    """The record of every configuration, and of those they build on; ``jobs`` processes, each making run after run.

    A run that cannot be made is a record as well: ``skipped`` where the combination is refused, ``failed`` for
    everything else. Only ``done`` is not tried again the next time. Raises Unwritable, with the run in question, if its
    record cannot be written, and OtherData for a record made with other data.
    """
    unfinished = [c for c in configs if place.finished(c) is None]  # only these need what they build on
    needs: dict[str, list[RunConfig]] = {}
    first: dict[str, RunConfig] = {}
    while unfinished:
        config = unfinished.pop()
        needs[config.key] = _needed(config)
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
                        records[config.key] = vain = _put(vain, config, place)
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


def _needed(config: RunConfig) -> list[RunConfig]:
    """What a run builds on: nothing, where it is too short or its method cannot say. Its worker will record why."""
    try:
        return [] if is_too_short(config) else list(needed(config).values())
    except Exception:
        return []


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
            why = "; out of memory?" if code == -signal.SIGKILL else ""
            assert self.config is not None
            record = _unmade(self.config, "failed", f"the process that made this run ended too early ({how}){why}")
            record = _put(record, self.config, self.place)
            self._start()
            return "record", {"record": record}

    def stop(self) -> None:
        self.line.close()
        self.process.kill()  # it ignores the gentler signals; whatever it was writing is there whole, or not at all
        self.process.join()


def _stirred(team: Sequence[_Worker]) -> list[_Worker]:
    """Those that have something to say."""
    by_line = {worker.line: worker for worker in team if worker.config is not None}
    if not by_line:  # wait would wait for ever
        return []
    return [by_line[line] for line in wait(list(by_line)) if isinstance(line, Connection)]


def _work(place: Place, line: Connection) -> None:
    """The worker process: a configuration in, events and a record out. It ends when nobody listens any more."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they are for the one who started us
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    register(place.files)

    def send(event: str, about: Mapping[str, Any]) -> None:
        try:
            line.send((event, about))
        except (BrokenPipeError, ConnectionResetError):
            os._exit(1)  # whoever started us is gone: the checkpoint is safe

    mirror = Mirror(place.work / "wandb", place.group, lambda text: send("warning", {"text": text}))
    while True:
        try:
            settings, export = line.recv()
        except (EOFError, ConnectionResetError):
            return
        config = RunConfig(**settings)

        def listen(event: str, about: Mapping[str, Any], config: RunConfig = config) -> None:
            mirror.hear(config, event, about)
            if event == "start":
                send(event, {"epoch": about["epoch"], "epochs": about["epochs"]})
            elif event != "done":
                send(event, about)

        try:
            send("record", {"record": attempt(config, place, export, listen)})
        except Unwritable as error:
            send("broken", {"error": error})


def _end_with_parent() -> None:
    """Nobody is waiting for a worker whose parent was killed, not even while it waits for a lock itself."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def attempt(config: RunConfig, place: Place, export: bool, listen: Listener) -> RunRecord:
    """``run``, with a record in place of an error. Raises Unwritable if that record cannot be written."""
    try:
        return make(config, place, export=export, listen=listen)
    except Refused as error:
        record = _unmade(config, "skipped", str(error))
    except Unwritable as error:
        if error.filename == str(place.record(config)):
            raise _of_run(config, error) from None
        record = _unmade(config, "failed", f"{error.filename}: {error.strerror}")
    except (ConfigError, DataError, Damaged, FloatingPointError) as error:
        record = _unmade(config, "failed", str(error))
    return _put(record, config, place)


def make(config: RunConfig, place: Place, *, export: bool = False, listen: Listener) -> RunRecord:
    """``run``, with a failed record, and a file with the traceback, for a fault of ours or of a method's.

    What the user can mend remains an error: see ``run``.
    """
    try:
        return run(config, place, export=export, listen=listen)
    except (ConfigError, DataError, Damaged, FloatingPointError, Unwritable):
        raise
    except Exception as error:
        where = place.work / config.key / "error.txt"
        try:
            write_whole(where, traceback.format_exc())
            more = f" (see {where})"
        except Unwritable:
            more = ""
        return _put(_unmade(config, "failed", f"{type(error).__name__}: {error}{more}"), config, place)


def _put(record: RunRecord, config: RunConfig, place: Place) -> RunRecord:
    """Write down why a run was not made; the record of the same run that was made earlier stays where it is."""
    earlier = find_record(place.results, place.record(config)) if is_first_rank() else None
    if is_first_rank() and (earlier is None or earlier.status != "done"):
        try:
            record.save(place.results)
        except Unwritable as error:
            raise _of_run(config, error) from None
    return record


def _of_run(config: RunConfig, error: Unwritable) -> Unwritable:
    """The same error, which says whose file it was."""
    return Unwritable(error.errno, error.strerror, f"{config.title}: {error.filename}")


def _unmade(config: RunConfig, status: Any, reason: str) -> RunRecord:
    return RunRecord(
        key=config.key, config=config.model_dump(mode="json"), status=status, reason=" ".join(reason.split())
    )


def writable(folder: Path) -> None:
    """Raises OSError now, not after an hour, if nothing can be written below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
