"""Files of a list, fetched from git LFS over several connections; every one is verified before it gets its name.

What is there already is not fetched again, a file that was stopped goes on, and a repository that fails is left for the
next one.
"""

from __future__ import annotations

import errno
import queue
import shutil
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from datasets.core.errors import DataError, PinMismatchError
from datasets.core.files import convert_disk_errors, locked
from datasets.core.progress import Progress
from datasets.storage import content
from datasets.storage.download import ExactFile, ServerError, fetch
from datasets.storage.git_lfs import BATCH, Link, links
from datasets.storage.list_files import read_exact_files

CONNECTIONS = 8
TRIES = 2  # of a file at one repository, each with a new link; ``fetch`` waits and goes on by itself within each
IN_A_ROW = 2 * CONNECTIONS  # files that fail before a repository is left; as many links as connections expire at once
PAUSE = 0.2  # seconds between two looks at how far the connections are
GO_ON = "run the same command again later, it goes on where it stopped"


@dataclass(frozen=True)
class ListedFile:
    """A file: its path below the folder of the dataset, and what it holds."""

    path: str
    exact: ExactFile


def read_listed(path: Path) -> list[ListedFile]:
    """Reads a gzipped CSV of this repository with the columns ``path``, ``bytes`` and ``sha256``.

    Raises:
        ManifestError: It is not there, damaged, or another file.
    """
    return [ListedFile(name, exact) for name, exact in read_exact_files(path).items()]


def fetch_listed(
    files: Sequence[ListedFile], folder: Path, repositories: Sequence[str], progress: Progress | None = None
) -> None:
    """Fetches the files that are not there yet.

    Args:
        files: What has to be there in the end.
        folder: Where. Files in it that are not the listed ones are replaced, and their number is said.
        repositories: Addresses of git repositories, as a browser shows them. Each is asked once the one before it has
            failed, which is said in a line.
        progress: Is told how many bytes of those that were missing are there.

    Raises:
        DataError: The last repository failed too, another process downloads into the folder, or the disk is full or
            read-only. Files that have arrived stay.
    """
    with convert_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "another process is downloading into it"):
        left = _not_there(files, folder)
        if not left:
            return
        _ask_for_space(folder, left)
        total = sum(file.exact.size for file in left.values())
        for repository, following in zip(repositories, [*repositories[1:], None], strict=True):
            try:
                with _Connections(repository, folder, left, total, progress) as connections:
                    connections.fetch_all()
                return
            except ServerError as error:
                reason = f"{repository}: {error.reason}"
                if following is None:
                    there = len(files) - len(left)
                    raise DataError(f"{reason}; {there} of {len(files)} files are there: {GO_ON}") from error
                print(f"{reason}; going on with {following}", file=sys.stderr)


def _not_there(files: Sequence[ListedFile], folder: Path) -> dict[str, ListedFile]:
    """The files that have to be fetched, by their paths. Digests of files that were left alone are remembered."""
    of_right_size, other = {}, 0
    for file in files:
        path = folder / file.path
        if path.is_file() and path.stat().st_size == file.exact.size:
            of_right_size[file.path] = path
        else:
            other += path.exists()
    digests = content.digests(of_right_size.values())
    left = {
        file.path: file
        for file in files
        if file.path not in of_right_size or digests.get(of_right_size[file.path]) != file.exact.sha256
    }
    other += len(left.keys() & of_right_size.keys())
    if other:
        print(f"{folder}: {other} files are not the published ones; they are fetched again", file=sys.stderr)
    return left


def _ask_for_space(folder: Path, left: Mapping[str, ListedFile]) -> None:
    """Raises DataError where the disk has no room for all files, before the first is fetched."""
    need = sum(file.exact.size for file in left.values())
    with convert_disk_errors(folder):
        if need > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, f"needs {need / 1e6:.1f} MB more", str(folder))


class _Expired(Exception):
    """A link that was not tried, because it works no longer."""


class _Connections:
    """Several threads that fetch files of one repository. Only the thread that made them decides and counts.

    Args:
        repository: The address of the repository.
        folder: Where files go.
        left: The files to fetch, by path; those that arrive are taken out.
        total: The bytes that were missing before the first repository was asked.
        progress: Is told how many of them are there.
    """

    def __init__(
        self, repository: str, folder: Path, left: dict[str, ListedFile], total: int, progress: Progress | None
    ) -> None:
        self.repository, self.folder, self.left, self.total, self.progress = repository, folder, left, total, progress
        self.number, self.missing = len(left), sum(file.exact.size for file in left.values())
        self.queue = deque(left.values())  # without a link
        # With a link, and with whether one of the same answer was refused.
        self.jobs: queue.SimpleQueue[tuple[ListedFile, Link, threading.Event] | None] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[tuple[ListedFile, Exception | None]] = queue.SimpleQueue()
        self.waiting = 0  # jobs without a result
        self.failures: Counter[str] = Counter()
        self.in_a_row = 0
        self.reasons: dict[str, str] = {}  # of files that failed for good
        self.received: dict[str, int] = {}  # bytes of files that are arriving
        self.stopped = threading.Event()
        # Daemons, so that ctrl-C ends the process at once: what they have written so far is a .part that goes on.
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(CONNECTIONS, len(left)))]

    def __enter__(self) -> _Connections:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.stopped.set()
        for _ in self.threads:
            self.jobs.put(None)
        if kind is None or issubclass(kind, Exception):  # the next repository must not meet them at a .part
            for thread in self.threads:
                thread.join()
            while not self.results.empty():
                file, error = self.results.get()
                if error is None:
                    self._arrived(file)

    def fetch_all(self) -> None:
        """Fetches all files. Raises ServerError where some of them cannot be had, DataError for a bad disk."""
        while self.queue or self.waiting:
            if self.queue and self.waiting < len(self.threads):
                self._ask()
            with suppress(queue.Empty):
                self._take(*self.results.get(timeout=PAUSE))
            if self.progress:
                done = self.total - self.missing + sum(list(self.received.values()))
                there = self.number - len(self.left)
                self.progress(f"fetching {there:,} of {self.number:,} files", done, self.total)
        if self.reasons:
            path, reason = next(iter(self.reasons.items()))
            more = f", and {len(self.reasons) - 1} more files" if len(self.reasons) > 1 else ""
            raise ServerError(self.repository, f"{path}: {reason}{more}", GO_ON)

    def _ask(self) -> None:
        """Gets links for the next files and hands them to the threads."""
        batch = [self.queue.popleft() for _ in range(min(BATCH, len(self.queue)))]
        found, refused = links(self.repository, [file.exact for file in batch]), threading.Event()
        for file in batch:
            link = found[file.exact.sha256]
            if isinstance(link, Link):
                self.jobs.put((file, link, refused))
                self.waiting += 1
            else:
                self._fail(file, link)

    def _take(self, file: ListedFile, error: Exception | None) -> None:
        """Deals with the result of a job."""
        self.waiting -= 1
        self.received.pop(file.path, None)
        if error is None:
            self._arrived(file)
            self.in_a_row = 0
        elif isinstance(error, _Expired):
            self.queue.append(file)  # behind those that failed: they get the newest links
        elif isinstance(error, PinMismatchError):
            self._fail(file, "other bytes than the published ones")
        elif isinstance(error, ServerError):
            self._fail(file, error.reason)
        else:
            raise error

    def _arrived(self, file: ListedFile) -> None:
        del self.left[file.path]
        self.missing -= file.exact.size

    def _fail(self, file: ListedFile, reason: str) -> None:
        """Puts a file first, to be tried with a new link, or gives it up. Raises ServerError where nothing comes."""
        self.failures[file.path] += 1
        self.in_a_row += 1
        if self.failures[file.path] < TRIES:
            self.queue.appendleft(file)
        else:
            self.reasons[file.path] = reason
        if self.in_a_row > IN_A_ROW:
            raise ServerError(self.repository, f"{self.in_a_row} files in a row failed, the last by {reason}", GO_ON)

    def _work(self) -> None:
        """What each thread does, until it is told to end."""
        while (job := self.jobs.get()) and not self.stopped.is_set():
            try:
                self._fetch(*job)
                self.results.put((job[0], None))
            except Exception as error:
                self.results.put((job[0], error))

    def _fetch(self, file: ListedFile, link: Link, refused: threading.Event) -> None:
        """Fetches one file. Raises _Expired, and what ``fetch`` raises."""

        def arrived(_: str, received: int, __: int) -> None:
            self.received[file.path] = received

        if time.monotonic() > link.expires or refused.is_set():
            raise _Expired
        try:
            fetch(link.url, self.folder / file.path, file.exact, progress=arrived, headers=link.headers)
        except ServerError as error:
            if error.status not in (0, 404):  # it may have expired without a word, as those of the same answer have
                refused.set()
            raise
