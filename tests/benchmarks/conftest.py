"""What a test registers from a file of its own is forgotten after it: the next test may list what the project has."""

from collections.abc import Iterator

import pytest

from benchmarks.config.run_config import FILES
from benchmarks.config.user_files import KINDS


@pytest.fixture(autouse=True)
def forget_registered_files() -> Iterator[None]:
    names = [FILES, *(registry for registry, _, _ in KINDS.values())]
    before = [dict(one) for one in names]
    yield
    for one, content in zip(names, before, strict=True):
        one.clear()
        one.update(content)
