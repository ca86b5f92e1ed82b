"""The workers that the tests of this room share."""

from collections.abc import Iterator

import pytest

from tests.faults.workers import Workers


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    with Workers() as found:
        yield found
