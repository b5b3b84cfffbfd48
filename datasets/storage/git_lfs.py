"""Git LFS without git: asks a repository where its large files can be fetched, by the batch protocol over HTTP.

Nothing that a server answers is trusted: answers are bounded and checked field by field, links lead to http or https
alone, and sizes are the caller's.

References:
    - Git LFS API, "Batch API" and "Basic transfers": github.com/git-lfs/git-lfs, folder docs/api, version 3.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from datasets.core.checks import printable
from datasets.storage.download import SCHEMES, ExactFile, ServerError, post

BATCH = 100  # objects that every server answers at once
ANSWER = 4 << 20  # bytes, for BATCH objects: a link and its headers have two kilobytes, often less
MEDIA_TYPE = "application/vnd.git-lfs+json"
OF_ONE_OBJECT = (404, 409, 410, 422)  # error codes; others, such as 403, 429, 507, 509, are about the whole repository
OUR_HEADERS = {"connection", "content-length", "host", "range", "transfer-encoding", "user-agent"}
HEADER_NAME, HEADER_VALUE = re.compile(r"[A-Za-z0-9-]{1,100}"), re.compile(r"[ -~]{0,8000}")
SHORTEST_LIFE = 1.0  # seconds: a link that is said to live shorter comes from a clock that is wrong


@dataclass(frozen=True)
class Link:
    """Where an object can be fetched.

    Args:
        url: The address, http or https.
        headers: To be sent to it.
        expires: When it stops to work, by ``time.monotonic``; infinity where the server does not say.
    """

    url: str
    headers: Mapping[str, str]
    expires: float


class _Download(BaseModel):
    href: str = Field(max_length=8000)
    header: dict[str, str] | None = None
    expires_in: float | None = Field(None, allow_inf_nan=False)
    expires_at: AwareDatetime | None = None


class _Actions(BaseModel):
    download: _Download | None = None


class _Error(BaseModel):
    code: int = Field(ge=0, le=999)
    message: str = ""


class _Refusal(BaseModel):
    message: str


class _Object(BaseModel):
    oid: str
    actions: _Actions | None = None
    error: _Error | None = None


class _Answer(BaseModel):
    transfer: str | None = None
    objects: list[_Object] = Field(max_length=BATCH)


def links(repository: str, objects: Iterable[ExactFile]) -> dict[str, Link | str]:
    """Asks for links to objects.

    Args:
        repository: The address of the repository, as a browser shows it.
        objects: At most ``BATCH``; equal ones are asked for once.

    Returns:
        The sha256 of every object -> its link, or a text that says why the repository has none.

    Raises:
        ServerError: The server cannot be reached, refuses (a quota is used up), or does not speak the protocol.
    """
    if not urlsplit(repository).path.strip("/"):
        raise ServerError(repository, "not the address of a git repository", "check the address")
    wanted = {one.sha256: one.size for one in objects}
    request = {
        "operation": "download",
        "transfers": ["basic"],
        "objects": [{"oid": oid, "size": size} for oid, size in wanted.items()],
    }
    url = f"{repository.removesuffix('/').removesuffix('.git')}.git/info/lfs/objects/batch"
    headers = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE}
    try:
        answer = _Answer.model_validate_json(post(url, json.dumps(request).encode(), headers, ANSWER))
    except ServerError as error:
        if said := _message(error.body):
            raise ServerError(repository, f"{error.reason}: {said}", "get the files elsewhere", error.status) from error
        raise
    except ValidationError as error:
        reason = f"not an answer of git LFS ({printable(error.errors()[0]['msg'])})"
        raise ServerError(repository, reason, "check the address") from error
    if answer.transfer not in (None, "", "basic"):
        raise ServerError(repository, f"offers {printable(answer.transfer)} transfers alone", "get the files elsewhere")
    found: dict[str, Link | str] = dict.fromkeys(wanted, "no answer about it")
    found.update({one.oid: _link(repository, one) for one in answer.objects if one.oid in wanted})
    return found


def _link(repository: str, one: _Object) -> Link | str:
    """The link in an answer, or why there is none. Raises ServerError where the reason concerns all objects."""
    if one.error:
        reason = f"error {one.error.code}: {printable(one.error.message)}"
        if one.error.code not in OF_ONE_OBJECT:
            raise ServerError(repository, reason, "get the files elsewhere", one.error.code)
        return reason
    if not one.actions or not one.actions.download:
        return "no link to it"
    download = one.actions.download
    if not _usable(download.href):
        return f"its link leads to no http or https address ({printable(download.href)})"
    headers = {name: value for name, value in (download.header or {}).items() if name.lower() not in OUR_HEADERS}
    if len(headers) > 20 or not all(HEADER_NAME.fullmatch(n) and HEADER_VALUE.fullmatch(v) for n, v in headers.items()):
        return "its link needs headers that cannot be sent"
    return Link(download.href, headers, time.monotonic() + _life(download))


def _life(download: _Download) -> float:
    """The seconds that a link is said to work; infinity where nothing is said, or nothing that makes sense."""
    if download.expires_in:
        seconds = download.expires_in
    elif download.expires_at:
        seconds = (download.expires_at - datetime.now(UTC)).total_seconds()
    else:
        return math.inf
    return seconds if seconds >= SHORTEST_LIFE else math.inf


def _usable(url: str) -> bool:
    """Whether an address is one that ``fetch`` can ask."""
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname and parts.hostname.encode("idna")) and parts.port != 0
    except ValueError:
        return False
    return named and url.startswith(SCHEMES) and re.fullmatch(r"[!-~]+", url) is not None


def _message(body: bytes) -> str:
    """What a server says about its refusal, in the form that the protocol has for it; else nothing."""
    try:
        return printable(_Refusal.model_validate_json(body).message)
    except ValidationError:
        return ""
