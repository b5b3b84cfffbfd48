"""What the local web servers of the tests share: answers from the byte that is asked for, a thread to serve in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer


def first_wanted(handler: BaseHTTPRequestHandler) -> int:
    """The number of the first byte that is asked for: that of ``Range: bytes=N-``, else 0."""
    wanted = handler.headers["Range"]
    return int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0


def send_head(handler: BaseHTTPRequestHandler, length: int, start: int) -> None:
    """Status and headers of an answer with all bytes of a body of ``length`` from ``start`` on."""
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{length - 1}/{length}")
    handler.send_header("Content-Length", str(length - start))
    handler.end_headers()


@contextmanager
def serving(httpd: HTTPServer) -> Iterator[str]:
    """Serve in a thread until the block ends. Gives the address."""
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        thread.join()
