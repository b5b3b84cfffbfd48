"""What a test registers from a file of its own is forgotten after it: the next test may list what the project has."""

from collections.abc import Iterator
from contextlib import ExitStack
from unittest.mock import patch

import pytest

from benchmarks.config.run_config import FILES
from benchmarks.config.user_files import KINDS


@pytest.fixture(autouse=True)
def forget_registered_files() -> Iterator[None]:
    with ExitStack() as restored:
        for names in (FILES, *(registry for registry, _, _ in KINDS.values())):
            restored.enter_context(patch.dict(names))
        yield
