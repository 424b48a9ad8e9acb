"""What takes long to make and nobody changes: keys and uploads of encrypted rows, made once for all test modules."""

import pytest

from tests.encrypted_rows import Parties, make_epoch


@pytest.fixture(scope="session")
def parties():
    return Parties()


@pytest.fixture(scope="session")
def epoch(parties):
    return make_epoch(parties)
