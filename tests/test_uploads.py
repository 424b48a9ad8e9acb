"""Uploaded tables: what servers hold, on disk too, against the rows themselves and against a careless or hostile owner."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import veilstat as vs
from veilstat.architectures.sharing.uploads import Header, Plane, deal, expand, plane_values, planes
from veilstat.platform.table import Table
from veilstat.platform.upload_store import UploadStore
from veilstat.testing.tables import small_schema, small_tables

SCHEMA = small_schema()
FRAME = small_tables()["owner1"].iloc[:50]
COMPLETE = ("age", "region", "smoker")


def header(**changes):
    values = {"owner": "owner1", "version": 1, "schema": SCHEMA.digest.hex(), "complete": COMPLETE, "rows": 60}
    return Header(**{**values, "ring_bits": 64, "identifier": os.urandom(16).hex(), **changes})


def columns():
    return Table("owner1", FRAME, SCHEMA).rows(tuple(column.name for column in SCHEMA)).columns


def dealt(head):
    """All payloads of each server."""
    return list(zip(*deal(head, SCHEMA, columns(), len(FRAME), os.urandom), strict=True))


def plain(head, plane):
    return plane_values(plane, columns(), len(FRAME), head.rows)


def total(ring, parts):
    """The integers behind the components 0, 1 and 2, each of shape (limbs, rows)."""
    elements = ring.zeros(parts[0].shape[1])
    for part in parts:
        ring.add(elements, np.ascontiguousarray(part.T).reshape(elements.shape))
    return ring.decode(elements, -(2**63)).tolist()


@pytest.mark.parametrize("bits", [64, 128])
def test_three_servers_together_hold_the_rows_and_neighbours_agree(bits):
    head = header(ring_bits=bits)
    for place, (plane, *payloads) in enumerate(zip(planes(SCHEMA, COMPLETE), *dealt(head), strict=True)):
        views = [expand(head, server, payload) for server, payload in enumerate(payloads)]
        assert total(head.ring, [view[0] for view in views]) == plain(head, plane).tolist()
        assert all(np.array_equal(views[server][1], views[server - 1][0]) for server in range(3))
        if place == 0:
            assert plain(head, plane).tolist() == [1] * 50 + [0] * 10


def test_an_upload_costs_two_components_and_no_server_holds_all_three():
    sizes = [sum(map(len, payloads)) for payloads in dealt(header())]
    count = len(planes(SCHEMA, COMPLETE))
    assert sizes == [count * (60 * 8 + 28), count * 56, count * (60 * 8 + 28)]


@pytest.mark.parametrize("server", [0, 1, 2])
def test_what_a_server_holds_does_not_depend_on_the_rows(server):
    head = header(rows=64)
    words = np.concatenate([expand(head, server, payload).reshape(-1) for payload in dealt(head)[server]])
    digits = np.bincount(words.view(np.uint8), minlength=256)
    expected = digits.sum() / 256
    assert ((digits - expected) ** 2 / expected).sum() < 255 + 6 * np.sqrt(2 * 255)


def test_planes_need_no_comparison_on_rows():
    assert planes(SCHEMA, COMPLETE)[:4] == (Plane("counted"), Plane("codes", "age"), Plane("present", "bmi"), Plane("codes", "bmi"))
    assert [plane.code for plane in planes(SCHEMA, ()) if plane.kind == "level"] == [1, 2]
    assert Plane("present", "region") in planes(SCHEMA, ())
    assert plain(header(), Plane("codes", "bmi"))[FRAME["bmi"].isna().to_numpy().nonzero()[0]].tolist() == [0] * FRAME["bmi"].isna().sum()


def test_a_column_with_missing_values_is_not_declared_complete():
    with pytest.raises(vs.ProtocolViolation) as error:
        dealt(header(complete=("age", "bmi")))
    assert error.value.code == "upload_incomplete"
    with pytest.raises(vs.ProtocolViolation) as error:
        dealt(header(rows=49))
    assert error.value.code == "upload_rows"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"{",
        b'{"owner":1}',
        header(identifier="00").to_bytes().replace(b"60", b"true"),
        b"\xff",
        b"[" * 100_000,
        b"x" * (2 << 20),
    ],
)
def test_malformed_headers_are_refused(raw):
    assert Header.from_bytes(header(identifier="00").to_bytes()) == header(identifier="00")
    with pytest.raises(vs.ProtocolViolation):
        Header.from_bytes(raw)


@pytest.mark.parametrize("changes", [{"rows": 0}, {"version": -1}, {"ring_bits": 32}, {"owner": ""}, {"rows": 2**63}])
def test_headers_are_validated(changes):
    with pytest.raises(vs.ProtocolViolation):
        header(**changes)


@pytest.fixture
def store(tmp_path):
    return UploadStore(tmp_path, SCHEMA, 0)


def receive(store, sender, head, payloads):
    incoming = store.begin(sender, head)
    try:
        for payload in payloads:
            incoming.add(payload)
        incoming.finish()
        incoming.commit()
    finally:
        incoming.discard()


def upload(store, head):
    receive(store, "owner1", head, dealt(head)[store.server])


def code_of(call):
    with pytest.raises(vs.VeilstatError) as error:
        call()
    return error.value.code


def test_an_upload_survives_a_restart_and_serves_any_number_of_queries(store, tmp_path):
    head = header(ring_bits=128)
    payloads = dealt(head)[0]
    receive(store, "owner1", head, payloads)
    for opened in (store, UploadStore(tmp_path, SCHEMA, 0)):
        rows = opened.rows("owner1", 1)
        assert rows.header == head
        assert np.array_equal(rows.words, np.stack([expand(head, 0, payload) for payload in payloads]))
    assert [oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == ["0o600"]


def test_only_larger_versions_are_taken_and_a_withdrawn_one_never_returns(store, tmp_path):
    first, third = header(), header(version=3)
    upload(store, first)
    upload(store, third)
    assert code_of(lambda: upload(store, header(version=2))) == "upload_version"
    assert code_of(lambda: upload(store, third)) == "upload_version"
    assert code_of(lambda: store.withdraw("owner1", 2)) == "upload_unknown"
    store.withdraw("owner1", 3)
    assert code_of(lambda: store.rows("owner1", 3)) == "upload_unknown"
    restarted = UploadStore(tmp_path, SCHEMA, 0)
    assert code_of(lambda: upload(restarted, third)) == "upload_version"
    restarted.withdraw("owner1", 2)
    assert restarted.largest_version("owner1") == 3
    upload(restarted, header(version=4))
    assert restarted.rows("owner1", 4).header.version == 4


def test_a_crash_between_the_record_of_a_withdrawal_and_the_removal_leaves_it_withdrawn(store, tmp_path, monkeypatch):
    upload(store, header())
    unlink = type(tmp_path).unlink

    def crash(path, missing_ok=False):
        if path.suffix == ".shares":
            raise OSError("crash")
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "unlink", crash)
        assert code_of(lambda: store.withdraw("owner1", 1)) == "disk_failed"
    assert any(path.suffix == ".shares" for path in tmp_path.iterdir())
    restarted = UploadStore(tmp_path, SCHEMA, 0)
    assert code_of(lambda: restarted.rows("owner1", 1)) == "upload_unknown"
    upload(restarted, header(version=2))
    assert restarted.rows("owner1", 2)


@pytest.mark.parametrize(
    ("sender", "changes", "code"),
    [
        ("owner2", {}, "upload_owner"),
        ("owner1", {"schema": "00"}, "upload_schema"),
        ("owner1", {"complete": ("region", "age")}, "upload_schema"),
        ("owner1", {"complete": ("height",)}, "upload_schema"),
        ("owner1", {"rows": 65}, "upload_rows"),
    ],
)
def test_headers_that_do_not_fit_are_refused_and_nothing_is_written(store, tmp_path, sender, changes, code):
    head = header(**changes)
    assert code_of(lambda: receive(store, sender, head, [])) == code
    assert not list(tmp_path.iterdir())


def test_payloads_that_do_not_fit_leave_the_former_upload(store, tmp_path):
    former, head = header(), header(version=2)
    upload(store, former)
    payloads = dealt(head)[0]
    for wrong in (payloads[:-1], (*payloads, payloads[0]), (payloads[0][:-1], *payloads[1:]), dealt(head)[1], ()):
        assert code_of(lambda wrong=wrong: receive(store, "owner1", head, wrong)) == "upload_size"
        assert store.rows("owner1", 1).header == former
        assert len(list(tmp_path.iterdir())) == 1


def test_every_damaged_byte_and_every_wrong_length_is_found(store, tmp_path):
    upload(store, header())
    place = next(tmp_path.iterdir())
    whole = place.read_bytes()
    end = len(whole)
    for position in (0, end // 2, end - 500, end - 90, end - 57, end - 56, end - 48, end - 40, end - 33, end - 32, end - 1):
        place.write_bytes(whole[:position] + bytes((whole[position] ^ 1,)) + whole[position + 1 :])
        assert code_of(lambda: UploadStore(tmp_path, SCHEMA, 0).rows("owner1", 1)) == "upload_damaged"
    for shorter in (b"", whole[:-1], whole[: end // 2], whole[8:], bytes(8) + whole):
        place.write_bytes(shorter)
        assert code_of(lambda: UploadStore(tmp_path, SCHEMA, 0).rows("owner1", 1)) in ("upload_damaged", "upload_foreign")
    place.write_bytes(whole)
    assert UploadStore(tmp_path, SCHEMA, 0).rows("owner1", 1)


def test_files_of_another_server_schema_or_owner_are_refused(store, tmp_path):
    upload(store, header())
    place = next(tmp_path.iterdir())
    assert code_of(lambda: UploadStore(tmp_path, SCHEMA, 1).rows("owner1", 1)) == "upload_foreign"
    other = vs.Schema(*SCHEMA, max_rows=65)
    assert code_of(lambda: UploadStore(tmp_path, other, 0).rows("owner1", 1)) == "upload_foreign"
    place.rename(store._place("owner2"))
    assert code_of(lambda: store.rows("owner2", 1)) == "upload_foreign"
    assert code_of(lambda: UploadStore(tmp_path / "none", SCHEMA, 0)) == "no_directory"


def test_a_killed_server_never_shows_half_an_upload(store, tmp_path):
    upload(store, header())
    script = """
import sys, time
from pathlib import Path
from tests.test_uploads import SCHEMA, dealt, header, receive
from veilstat.platform.upload_store import UploadStore
head = header(version=2)
def slowly():
    for place, payload in enumerate(dealt(head)[0]):
        if place == 5:
            print("half", flush=True)
            time.sleep(60)
        yield payload
receive(UploadStore(Path(sys.argv[1]), SCHEMA, 0), "owner1", head, slowly())
"""
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."})
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert any(path.suffix == ".part" for path in tmp_path.iterdir())
    restarted = UploadStore(tmp_path, SCHEMA, 0)
    assert restarted.rows("owner1", 1)
    assert len(list(tmp_path.iterdir())) == 1
    upload(restarted, replace(header(), version=2))


def test_a_damaged_withdrawal_is_no_licence_to_take_old_rows(store, tmp_path):
    upload(store, header())
    store.withdraw("owner1", 1)
    place = next(path for path in tmp_path.iterdir() if path.suffix == ".withdrawn")
    for damaged in (b"", b"{", b"[]", b'{"owner":"owner1","version":"1"}', b"\xff"):
        place.write_bytes(damaged)
        assert code_of(lambda: upload(store, header(version=2))) == "upload_damaged"
        assert code_of(lambda: store.largest_version("owner1")) == "upload_damaged"


def test_a_full_disk_leaves_the_former_upload(store, tmp_path, monkeypatch):
    upload(store, header())
    with monkeypatch.context() as patch:
        patch.setattr("veilstat.platform.upload_store.os.fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert code_of(lambda: upload(store, header(version=2))) == "disk_failed"
        assert code_of(lambda: store.withdraw("owner1", 1)) == "disk_failed"
    assert len(list(tmp_path.iterdir())) == 1
    assert UploadStore(tmp_path, SCHEMA, 0).rows("owner1", 1)


def test_no_secret_shows_in_a_repr(store):
    upload(store, header())
    assert "words" not in repr(store.rows("owner1", 1))
