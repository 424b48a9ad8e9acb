"""The record of openings on disk: what a crash, a full disk or damage must not undo, and a server that restarts."""

import os
import signal
import subprocess
import sys

import pytest

import veilstat as vs
from veilstat.language.cut import Entry as EntryWall
from veilstat.language.cut import cut
from veilstat.platform import durable
from veilstat.platform.compute import ComputeServer
from veilstat.platform.opening_file import Entry, OpeningFile
from veilstat.platform.opening_record import OpeningRecord
from veilstat.protocol.faults import ProtocolError
from veilstat.testing.tables import small_schema, small_tables

FIRST, SECOND = Entry([b"\0" * 32, b"\n" * 32], ["a\nb", "ä, upload 1"]), Entry([b"\xff" * 32], [])


@pytest.fixture
def file(tmp_path):
    return OpeningFile(tmp_path / "compute1.openings")


def sums():
    step = vs.Sum("bp").steps(small_schema())[0]
    return cut(step.trace(small_schema(), 5), EntryWall.TOTALS, lambda facts: facts.is_linear)


def test_entries_are_read_after_a_restart_by_nobody_else(file):
    file.append(FIRST)
    file.append(SECOND)
    assert list(OpeningFile(file.path).read()) == [FIRST, SECOND]
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_a_line_without_its_end_is_removed_and_what_follows_is_whole(file):
    file.append(FIRST)
    whole = file.path.read_bytes()
    for length in range(1, len(whole)):
        file.path.write_bytes(whole + whole[:length][: len(whole) - 1])
        assert list(OpeningFile(file.path).read()) == [FIRST]
        file.append(SECOND)
        assert list(file.read()) == [FIRST, SECOND]


def test_every_damaged_byte_is_found(file):
    file.append(FIRST)
    file.append(SECOND)
    whole = file.path.read_bytes()
    for position in range(len(whole) - 1):
        file.path.write_bytes(whole[:position] + bytes((whole[position] ^ 1,)) + whole[position + 1 :])
        with pytest.raises(vs.VeilstatError) as error:
            list(file.read())
        assert error.value.code == "record_damaged"


def test_what_cannot_be_recorded_is_not_opened(file, monkeypatch):
    record, chosen = OpeningRecord(3, file), sums()
    record.authorise(chosen, b"", ("a", "b", "c"))
    before = file.path.read_bytes()
    real = os.write
    monkeypatch.setattr(durable.os, "write", lambda descriptor, line: real(descriptor, line[:5]))
    with pytest.raises(ProtocolError) as error:
        record.authorise(chosen, b"", ("d", "e", "f"))
    assert error.value.fault.code == "record_failed"
    assert file.path.read_bytes() == before
    monkeypatch.undo()
    record.authorise(chosen, b"", ("d", "e", "f", "g"))


def test_what_was_opened_before_a_restart_counts_and_is_written_once(file):
    chosen = sums()
    OpeningRecord(3, file).authorise(chosen, b"", ("a", "b", "c"))
    size = file.path.stat().st_size
    restarted = OpeningRecord(3, file)
    restarted.authorise(chosen, b"", ("a", "b", "c"))
    assert file.path.stat().st_size == size
    with pytest.raises(ProtocolError) as error:
        restarted.authorise(chosen, b"", ("a", "b"))
    assert error.value.fault.code == "isolating_difference"


def test_a_process_that_is_killed_has_recorded_what_it_was_about_to_open(file):
    script = """
import os, sys, time
from pathlib import Path
from tests.test_opening_file import sums
from veilstat.platform.opening_record import OpeningRecord
from veilstat.platform.opening_file import OpeningFile
OpeningRecord(3, OpeningFile(Path(sys.argv[1]))).authorise(sums(), b"", ("a", "b", "c"))
print("authorised", flush=True)
time.sleep(60)
"""
    command = [sys.executable, "-c", script, str(file.path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."})
    assert process.stdout.readline() == b"authorised\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with pytest.raises(ProtocolError):
        OpeningRecord(3, file).authorise(sums(), b"", ("a", "b"))


def test_a_compute_server_remembers_across_restarts(tmp_path):
    """Five owners are summed, all servers restart, and four of the five are refused."""
    study = vs.simulate(small_tables(), small_schema(), "sharing", faults=[vs.testing.Dropout("owner2", "share", after=1)])
    machines = study._backend.network.machines

    def restart():
        for name in study.definition.servers:
            old = machines[name]
            parts = (old.member, old.definition, old.planner, old.random)
            machines[name] = ComputeServer(*parts, openings=OpeningFile(tmp_path / name))

    restart()
    assert study.sum("bp").contributors == tuple(small_tables())
    restart()
    with pytest.raises(vs.PolicyDenied) as error:
        study.sum("bp")
    assert error.value.code == "isolating_difference"


def test_a_place_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    with pytest.raises(vs.SchemaError, match="nowhere"):
        OpeningFile(tmp_path / "nowhere" / "file")
