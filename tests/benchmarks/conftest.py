"""What a test registers from a file of its own is forgotten after it: the next test may list what the project has."""

from collections.abc import Iterator

import pytest

from tests.helpers.commands import forgotten_files


@pytest.fixture(autouse=True)
def forget_registered_files() -> Iterator[None]:
    with forgotten_files():
        yield
