"""Directories and files that are one account's alone, and how a file is replaced in them."""

import os

import pytest

import veilstat as vs
from veilstat.platform.deployment.private import make_private
from veilstat.platform.durable import part_of, replace_file
from veilstat.testing.tables import small_schema, small_tables


def test_a_private_directory_is_made_in_one_that_there_is_and_nowhere_else(tmp_path):
    """A mistyped path would else be an empty place that looks as if nothing had been kept."""
    make_private(tmp_path / "epoch")
    assert (tmp_path / "epoch").stat().st_mode & 0o777 == 0o700
    with pytest.raises(vs.SchemaError) as error:
        make_private(tmp_path / "mistyped" / "epoch")
    assert error.value.code == "no_directory"
    assert not (tmp_path / "mistyped").exists()


def test_a_file_that_is_replaced_takes_nothing_over_from_what_a_crash_left(tmp_path):
    place, elsewhere = tmp_path / "secret", tmp_path / "elsewhere"
    part_of(place).write_bytes(b"of a copy")
    part_of(place).chmod(0o644)
    replace_file(place, b"a", memoryview(b"b"))
    assert (place.read_bytes(), place.stat().st_mode & 0o777) == (b"ab", 0o600)
    os.symlink(elsewhere, part_of(place))
    replace_file(place, b"c")
    assert place.read_bytes() == b"c"
    assert not place.is_symlink()
    assert not elsewhere.exists()


@pytest.mark.parametrize("verb", ["upload", "withdraw"])
def test_where_rows_stay_with_their_owners_there_is_nothing_to_share_or_withdraw(verb):
    study = vs.simulate(small_tables(), small_schema(), "masking")
    with pytest.raises(vs.CapabilityError) as error:
        getattr(study, verb)("owner1")
    assert error.value.code == "no_uploads"
