"""The batch protocol of git LFS against a server on this machine that speaks it, well or badly."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest

from datasets.core.errors import DataError
from datasets.storage import download, git_lfs
from datasets.storage.download import ExactFile, ServerError
from datasets.storage.git_lfs import Link, links
from tests.helpers.lfs_server import Behaviour, lfs_server, oid

BODY = b"a recording" * 100
ONE = ExactFile(len(BODY), oid(BODY))
Lfs = tuple[str, Behaviour]


@pytest.fixture
def lfs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lfs]:
    monkeypatch.setattr(download, "PAUSE", 0.01)
    with lfs_server({"a": BODY}) as both:
        yield both


def the_link(repository: str) -> Link:
    link = links(repository, [ONE])[ONE.sha256]
    assert isinstance(link, Link), link
    return link


@pytest.mark.parametrize("end", ["", "/", ".git", ".git/"])
def test_links_are_asked_for_as_the_protocol_says(lfs: Lfs, end: str) -> None:
    base, behaviour = lfs
    link = the_link(base + end)
    assert link.url == f"{base.removesuffix('/repo')}/objects/1/{ONE.sha256}"
    assert link.expires == math.inf and not link.headers
    found = links(base, [ONE, ONE, ExactFile(5, "0" * 64)])
    assert isinstance(found[ONE.sha256], Link) and found["0" * 64] == "error 404: Object does not exist"
    assert [entry[:2] for entry in behaviour.log] == [("batch", 1), ("batch", 2)]  # each object once


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({"expires_in": 60}, 60),
        ({"expires_in": 60, "expires_at": "2001-01-01T00:00:00Z"}, 60),
        ({"expires_at": "2101-01-01T00:00:00Z"}, 10**9),
        ({"expires_in": 0, "expires_at": "0001-01-01T00:00:00Z"}, None),  # how some servers say that they say nothing
        ({"expires_in": -5}, None),
        ({"expires_at": "2001-01-01T00:00:00.5+01:00"}, None),  # a clock that is wrong, here or there
        ({"expires_in": None, "header": None}, None),
    ],
)
def test_when_a_link_expires(lfs: Lfs, said: dict[str, Any], seconds: float | None) -> None:
    lfs[1].action = said
    life = the_link(lfs[0]).expires - time.monotonic()
    assert life == math.inf if seconds is None else seconds * 0.95 < life < seconds * 3


def test_headers_of_a_link_are_kept_but_for_those_that_are_ours(lfs: Lfs) -> None:
    lfs[1].action = {"header": {"Authorization": "Basic eA==", "HOST": "evil", "Range": "bytes=5-", "X-Amz-Date": "1"}}
    assert the_link(lfs[0]).headers == {"Authorization": "Basic eA==", "X-Amz-Date": "1"}


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ({"href": "file:///etc/passwd"}, "no http or https address (file:///etc/passwd)"),
        ({"href": "ftp://127.0.0.1/a"}, "no http or https address"),
        ({"href": "http://"}, "no http or https address"),
        ({"href": "http://[::1/a"}, "no http or https address"),
        ({"href": "http://127.0.0.1:99999/a"}, "no http or https address"),
        ({"href": "http://" + "a" * 64 + ".org/a"}, "no http or https address"),
        ({"href": "http://127.0.0.1/a b"}, "no http or https address"),
        ({"href": "http://127.0.0.1/a\r\nX: y"}, "no http or https address"),
        ({"href": "http://127.0.0.1/\x1b[31m"}, r"(http://127.0.0.1/\x1b[31m)"),
        ({"header": {"X": "a\r\nHost: evil"}}, "headers that cannot be sent"),
        ({"header": {"X: y\r\nZ": "a"}}, "headers that cannot be sent"),
        ({"header": {"X": "ä"}}, "headers that cannot be sent"),
        ({"header": {f"X-{i}": "a" for i in range(21)}}, "headers that cannot be sent"),
    ],
)
def test_a_link_that_must_not_be_followed(lfs: Lfs, action: dict[str, Any], says: str) -> None:
    lfs[1].action = action
    reason = links(lfs[0], [ONE])[ONE.sha256]
    assert isinstance(reason, str) and says in reason and reason.isprintable()


def answered(**one: Any) -> bytes:
    return json.dumps({"objects": [{"oid": ONE.sha256, "size": 1, **one}]}).encode()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"<html>sign in</html>", "not an answer of git LFS (Invalid JSON"),
        (b"", "not an answer of git LFS"),
        (b"null", "not an answer of git LFS (Input should be an object"),
        (b"[" * 100_000, "not an answer of git LFS (Invalid JSON: recursion limit"),
        (b'{"objects": [{"oid": "\xff"}]}', "not an answer of git LFS"),
        (b'{"objects": {}}', "not an answer of git LFS"),
        (answered(error={"code": 10**400}), "not an answer of git LFS"),
        (answered(actions={"download": {"href": "http://a/" + "a" * 9000}}), "not an answer of git LFS"),
        (answered(actions={"download": {"href": "http://a", "expires_at": "soon"}}), "not an answer of git LFS"),
        (json.dumps({"objects": [{"oid": "a"}] * 101}).encode(), "not an answer of git LFS (List should have at most"),
        (b" " * (git_lfs.ANSWER + 1), f"answers with more than {git_lfs.ANSWER} bytes"),
        (json.dumps({"transfer": "lfs-standalone-\x1b", "objects": []}).encode(), r"offers lfs-standalone-\x1b transf"),
        (answered(error={"code": 509, "message": "Bandwidth limit exceeded"}), "error 509: Bandwidth limit exceeded"),
        (answered(error={"code": 403, "message": "no\nmore"}), "error 403: no more"),
    ],
)
def test_an_answer_that_is_none(lfs: Lfs, answer: bytes, says: str) -> None:
    lfs[1].answer = answer
    with pytest.raises(ServerError) as error:
        links(lfs[0], [ONE])
    line = str(error.value)
    assert line.startswith(lfs[0]) and says in line and line.isprintable() and len(line) < 500


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b'{"objects": []}', "no answer about it"),
        (answered(), "no link to it"),
        (answered(actions={"upload": {"href": "http://a"}}), "no link to it"),
        (answered(error={"code": 410, "message": "it was removed"}), "error 410: it was removed"),
        (
            json.dumps({"objects": [{"oid": "../../x", "actions": {"download": {"href": "http://a"}}}]}).encode(),
            "no an",
        ),
    ],
)
def test_an_object_without_a_link(lfs: Lfs, answer: bytes, says: str) -> None:
    lfs[1].answer = answer
    found = links(lfs[0], [ONE])
    assert found.keys() == {ONE.sha256} and says in str(found[ONE.sha256])


@pytest.mark.parametrize(
    ("status", "message", "says", "requests"),
    [
        (
            403,
            "This repository exceeded its LFS budget.",
            "HTTP 403 Forbidden: This repository exceeded its LFS bud",
            1,
        ),
        (
            509,
            "Bandwidth limit\n exceeded \x1b",
            r"HTTP 509 : Bandwidth limit exceeded \x1b; get the files elsewhere",
            1,
        ),
        (507, "", "HTTP 507 Insufficient Storage", 1),
        (404, "Not found", "HTTP 404 Not Found: Not found", 1),
        (401, "Credentials needed", "HTTP 401 Unauthorized: Credentials needed", 1),
        (500, "", "HTTP 500 Internal Server Error, 4 times", download.TRIES),
    ],
)
def test_a_server_that_refuses(lfs: Lfs, status: int, message: str, says: str, requests: int) -> None:
    lfs[1].status, lfs[1].message = status, message
    with pytest.raises(ServerError) as error:
        links(lfs[0], [ONE])
    assert says in str(error.value) and str(error.value).isprintable() and len(lfs[1].log) == requests


def test_a_server_that_is_busy_is_waited_for(lfs: Lfs) -> None:
    lfs[1].busy = {"POST": 1}
    began = time.monotonic()
    the_link(lfs[0])
    assert 1 <= time.monotonic() - began < 5 and [status for *_, status in lfs[1].log] == [429, 200]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, 0), ("", 0), (" 7 ", 7), ("-7", 0), ("1e9", 0), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_how_long_a_server_asks_to_wait(text: str | None, seconds: float) -> None:
    assert download._retry_after(text) == seconds
    in_a_minute = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))
    assert 55 < download._retry_after(in_a_minute) <= 60


def test_a_wait_of_hours_is_said_and_not_done(lfs: Lfs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LONGEST_WAIT", 0.5)
    lfs[1].busy = {"POST": 1}
    with pytest.raises(ServerError, match="HTTP 429 Too Many Requests, asks to wait 1 seconds; run the command again"):
        links(lfs[0], [ONE])
    assert len(lfs[1].log) == 1


def test_only_the_web_is_asked() -> None:
    with pytest.raises(DataError, match="not an http"):
        links("file:///repo", [ONE])
