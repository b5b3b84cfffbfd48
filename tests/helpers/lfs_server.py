"""A git-lfs server on this machine: the batch protocol, links to objects, and what a bad server makes of either."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers.servers import first_wanted, send_head, serving

MEDIA_TYPE = "application/vnd.git-lfs+json"


@dataclass
class Behaviour:
    """What the server does beside what it should. ``log`` holds (verb, object or number of objects, status)."""

    status: int = 0  # of every batch request, with ``message``
    message: str = ""
    answer: bytes | None = None  # to every batch request, instead of the true one
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)  # by object
    action: dict[str, Any] = field(default_factory=dict)  # more in every link: header, expires_in, expires_at
    lives: int = 0  # how many files a link serves, counted over all links of one answer; 0: all
    busy: dict[str, int] = field(default_factory=dict)  # verb -> how many requests are answered by 429 first
    cut: set[str] = field(default_factory=set)  # objects whose body is cut off at its first request
    wrong: set[str] = field(default_factory=set)  # objects of which other bytes are sent
    moved: str = ""  # address that links redirect to
    quota: int = 0  # batch answers before the quota is used up; 0: no end
    drip: float = 0.0  # seconds between two pieces of a body
    log: list[tuple[str, object, int]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)  # of requests for objects
    served: Counter[str] = field(default_factory=Counter)  # answer -> files it has served
    answers: int = 0
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def oid(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@contextmanager
def lfs_server(files: Mapping[str, bytes], lists: Mapping[str, bytes] | None = None) -> Iterator[tuple[str, Behaviour]]:
    """The address of a repository with these files, and how its server behaves; ``lists`` lie below that address."""
    objects, behaviour = {oid(body): body for body in files.values()}, Behaviour()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/repo.git/info/lfs/objects/batch"
            assert self.headers["Accept"] == self.headers["Content-Type"] == MEDIA_TYPE
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert request["operation"] == "download" and request["transfers"] == ["basic"]
            status = self.refused() or behaviour.status
            if behaviour.quota and behaviour.answers >= behaviour.quota:
                status, behaviour.message = 403, "This repository exceeded its LFS budget."
            behaviour.log.append(("batch", len(request["objects"]), status or 200))
            if status:
                return self.send(status, json.dumps({"message": behaviour.message}).encode())
            behaviour.answers += 1
            answer = {"transfer": "basic", "objects": [self.answer(one) for one in request["objects"]]}
            self.send(200, json.dumps(answer).encode() if behaviour.answer is None else behaviour.answer)

        def answer(self, one: dict[str, Any]) -> dict[str, Any]:
            error = behaviour.errors.get(one["oid"])
            if one["oid"] not in objects or len(objects[one["oid"]]) != one["size"]:
                error = {"code": 404, "message": "Object does not exist"}
            if error:
                return {**one, "error": error}
            base = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
            link = {"href": f"{base}/objects/{behaviour.answers}/{one['oid']}", **behaviour.action}
            return {**one, "authenticated": True, "actions": {"download": link}}

        def do_GET(self) -> None:
            if self.path.startswith("/repo/"):
                return self.send(200, (lists or {})[self.path.removeprefix("/repo/")])
            _, _, answer, name = self.path.split("/")
            behaviour.headers.append(dict(self.headers))
            with behaviour.lock:
                behaviour.at_once += 1
                behaviour.most_at_once = max(behaviour.most_at_once, behaviour.at_once)
                behaviour.served[answer] += 1
                expired = behaviour.lives and behaviour.served[answer] > behaviour.lives
            try:
                self.serve(name, 403 if expired else self.refused())
            finally:
                behaviour.at_once -= 1

        def refused(self) -> int:
            with behaviour.lock:
                left = behaviour.busy.get(self.command, 0)
                behaviour.busy[self.command] = left - 1
                return 429 if left > 0 else 0

        def serve(self, name: str, status: int) -> None:
            body, start = objects[name], first_wanted(self)
            behaviour.log.append(("object", name, status or 200))
            if status:
                return self.send(status, b"")
            if behaviour.moved:
                self.send_response(302)
                self.send_header("Location", f"{behaviour.moved}{self.path}")
                return self.end_headers()
            send_head(self, len(body), start)
            body = body[start:] if name not in behaviour.wrong else bytes(len(body) - start)
            if name in behaviour.cut:
                behaviour.cut.remove(name)
                body = body[: len(body) // 2]
            for at in range(0, len(body), 4096):
                time.sleep(behaviour.drip)
                self.wfile.write(body[at : at + 4096])

        def send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 429:
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

        def handle_error(self, *args: object) -> None:
            pass  # whoever asked was killed

    with Server(("127.0.0.1", 0), Handler) as httpd, serving(httpd) as address:
        yield f"{address}/repo", behaviour
