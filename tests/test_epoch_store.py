"""Encrypted rows on disk: complete or absent, bound to their study, and given up with the key; embedded studies that lose somebody."""

import os
import stat
from pathlib import Path

import msgspec
import pandas as pd
import pytest

import veilstat as vs
from tests.encrypted_rows import SCHEMA, begin_query, finished_query, released, tables, with_record, without
from veilstat.architectures.homomorphic.rows import pieces
from veilstat.errors import VeilstatError
from veilstat.platform.durable import replace_file
from veilstat.platform.epoch_store import EpochStore, _body
from veilstat.testing import Dropout, Lie, Tamper

STUDY = bytes(32)


@pytest.fixture
def store(tmp_path):
    return EpochStore(tmp_path, STUDY)


def code_of(call):
    with pytest.raises(VeilstatError) as error:
        call()
    return error.value.code


def test_after_a_restart_owners_and_cloud_answer_as_before(parties, epoch, tmp_path):
    again = {}
    for name, kept in epoch.items():
        (tmp_path / name).mkdir()
        here = EpochStore(tmp_path / name, STUDY)
        here.keep(kept)
        again[name] = EpochStore(tmp_path / name, STUDY).kept()
    assert again["server"].secret is None
    run = finished_query(begin_query(parties, again, vs.Sum("x")))
    assert sum(int(frame["x"].sum()) for frame in tables().values()) in released(parties, run)


def test_files_are_readable_by_nobody_else(store, epoch):
    store.keep(epoch["o0"])
    modes = {place.name: stat.S_IMODE(place.stat().st_mode) for place in store.directory.iterdir()}
    assert modes == {"epoch": 0o600, "secret": 0o600, "used": 0o600}
    assert epoch["o0"].secret.tobytes() not in (store.directory / "epoch").read_bytes()


@pytest.mark.parametrize("place", [0, 20, 60, 90, 5_000, -1])
def test_a_damaged_file_is_refused(store, epoch, place):
    store.keep(epoch["o0"])
    file = store.directory / "epoch"
    raw = bytearray(file.read_bytes())
    raw[place] ^= 1
    file.write_bytes(raw)
    assert code_of(store.kept) in ("epoch_damaged", "epoch_foreign")


def test_a_truncated_or_empty_file_is_refused(store, epoch):
    store.keep(epoch["o0"])
    file = store.directory / "epoch"
    whole = file.read_bytes()
    for length in (len(whole) - 1, 40, 0):
        file.write_bytes(whole[:length])
        assert code_of(store.kept) == "epoch_damaged"


def test_a_record_of_another_study_is_refused(store, epoch):
    store.keep(epoch["server"])
    assert code_of(EpochStore(store.directory, b"\1" * 32).kept) == "epoch_foreign"


def test_a_record_is_written_as_it_would_be_encoded_whole(store, epoch):
    store.keep(epoch["o0"])
    again, record = msgspec.msgpack.decode(b"".join(_body(epoch["o0"].record))), epoch["o0"].record
    assert again == msgspec.msgpack.decode(msgspec.msgpack.encode(record))
    assert list(again) == list(record.__struct_fields__)


def test_a_share_of_another_epochs_key_is_refused(store, epoch, tmp_path):
    store.keep(epoch["o0"])
    (tmp_path / "other").mkdir()
    EpochStore(tmp_path / "other", STUDY).keep(with_record(epoch["o0"], without(epoch["o0"].record, identity=b"\1" * 32)))
    (tmp_path / "other/secret").replace(store.directory / "secret")
    assert code_of(store.kept) == "epoch_damaged"


@pytest.mark.parametrize("file", ["secret", "used"])
def test_a_damaged_key_or_count_is_refused_and_so_is_a_lost_count(store, epoch, file):
    store.keep(epoch["o0"])
    place = store.directory / file
    whole = place.read_bytes()
    for raw in (whole[:-1], whole[:-1] + bytes((whole[-1] ^ 1,)), b""):
        place.write_bytes(raw)
        assert code_of(store.kept) == "epoch_damaged"
    (store.directory / "secret").write_bytes(whole) if file == "secret" else None
    (store.directory / "used").unlink()
    assert code_of(store.kept) == "epoch_damaged"
    assert code_of(lambda: store.spend(1, 10)) == "epoch_damaged"


def test_what_the_disk_does_not_take_leaves_the_key_and_its_former_count(store, epoch, monkeypatch):
    store.keep(epoch["o0"])
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert code_of(lambda: store.spend(1, 10)) == "disk_failed"
    monkeypatch.undo()
    assert (store.kept().secret is not None, store.use().answers) == (True, 0)


def test_answers_are_counted_before_they_are_decrypted_and_across_restarts(store, epoch):
    store.keep(epoch["o0"])
    store.spend(7, 10)
    again = EpochStore(store.directory, STUDY)
    assert code_of(lambda: again.spend(4, 10)) == "epoch_spent"
    again.spend(3, 10)
    assert code_of(lambda: store.spend(1, 10)) == "epoch_spent"
    store.keep(epoch["o0"])
    store.spend(10, 10)


def test_what_was_forgotten_is_gone(store, epoch):
    store.keep(epoch["o0"])
    store.forget()
    assert store.kept() is None
    assert list(store.directory.iterdir()) == []


def test_a_withdrawal_outlives_a_restart(store, epoch):
    store.keep(epoch["o0"])
    store.withdraw()
    again = EpochStore(store.directory, STUDY)
    assert again.consent.is_withdrawn
    assert again.kept() is None
    again.consent.rejoin()
    assert not EpochStore(store.directory, STUDY).consent.is_withdrawn


def test_a_key_that_cannot_be_written_is_not_used(study, monkeypatch):
    """The disk fails when the share of the key is written: the epoch ends, and nobody decrypts under it."""

    def full(place, *parts):
        if place.name == "secret":
            raise OSError(28, "No space left on device")
        replace_file(place, *parts)

    monkeypatch.setattr("veilstat.platform.epoch_store.replace_file", full)
    with pytest.raises(VeilstatError):
        study.upload("o0")
    monkeypatch.undo()
    with pytest.raises(vs.CapabilityError):
        study.mean("x")


def test_rows_that_cannot_be_removed_are_an_error_that_says_so(store, epoch, monkeypatch):
    store.keep(epoch["o0"])
    monkeypatch.setattr(Path, "unlink", read_only)
    assert code_of(store.forget) == "disk_failed"
    assert code_of(lambda: store.keep(epoch["o0"])) == "disk_failed"


def read_only(place, missing_ok):
    raise OSError(30, "Read-only file system")


def test_a_directory_must_exist(tmp_path):
    assert code_of(lambda: EpochStore(tmp_path / "nowhere", STUDY)) == "no_directory"


# embedded studies


def simulated(faults=(), smudging=40):
    return vs.simulate(tables(), SCHEMA, vs.Homomorphic(entry="rows", smudging_bits=smudging), faults=faults)


@pytest.fixture
def study():
    return simulated()


@pytest.mark.parametrize("round_name", ["epoch_commit", "epoch_reveal", "epoch_upload/0", "epoch_keep/0"])
def test_an_owner_lost_while_the_key_is_made_ends_the_epoch(round_name):
    with pytest.raises(vs.QuorumLost) as error:
        simulated([Dropout("o1", round_name)])
    assert error.value.culprits == ("o1",)


@pytest.mark.parametrize("round_name", ["approve", "commit_zero", "reveal_zero", "decrypt"])
def test_an_owner_lost_in_a_query_ends_it_and_the_next_one_is_answered(round_name):
    study = simulated([Dropout("o1", round_name)])
    with pytest.raises(vs.QuorumLost):
        study.mean("x")
    study._backend.network.faults = ()
    study._backend.network._silent.clear()
    assert study.sum("x").estimate == sum(frame["x"].sum() for frame in tables().values())


@pytest.mark.parametrize(
    ("round_name", "answers_meanwhile"),
    [("epoch_commit", True), ("epoch_reveal", True), ("epoch_upload/0", True), ("epoch_keep/0", False), ("epoch_done", True)],
)
def test_an_epoch_that_ends_early_leaves_a_whole_one_or_none_and_the_next_one_works(round_name, answers_meanwhile):
    """Once an owner keeps new rows its former ones are gone; nobody ever answers half over these, half over those."""
    study = simulated()
    network, total = study._backend.network, study.sum("x").estimate
    network.faults = (Dropout("server" if round_name == "epoch_done" else "o1", round_name),)
    with pytest.raises(vs.QuorumLost):
        study.upload("o0")
    network.faults = ()
    network._silent.clear()
    if answers_meanwhile:
        assert study.sum("x").estimate == total
    else:
        with pytest.raises((vs.ProtocolViolation, vs.CapabilityError)) as error:
            study.sum("x")
        assert error.value.code in ("epoch_differs", "no_epoch")
    study.upload("o0")
    assert study.sum("x").estimate == total


def test_messages_longer_than_a_piece_travel_in_several(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 3_000_001)
    study = simulated()
    rounds = {envelope.round for envelope in study.observed["server"].envelopes}
    assert {"epoch_upload/0", "epoch_upload/1", "epoch_keep/0", "epoch_keep/1"} <= rounds
    assert study.count().estimate == 30


def test_an_upload_altered_on_the_way_names_its_claimed_sender():
    with pytest.raises(vs.ProtocolViolation) as error:
        simulated([Tamper("o2", "epoch_upload/0")])
    assert error.value.culprits == ("o2",)


def test_a_wrong_share_is_met_by_the_bounds_alone():
    """The limit that SECURITY.md states: shares carry no proof; what is no total of data within the bounds is refused."""
    with pytest.raises(vs.ProtocolViolation):
        simulated([Lie("o0", "decrypt")]).mean("x")


def test_an_owner_that_gives_up_its_key_ends_all_queries_until_the_next_epoch(study):
    study.withdraw("o1")
    with pytest.raises(vs.CapabilityError) as error:
        study.mean("x")
    assert (error.value.code, error.value.culprits) == ("no_epoch", ("o1",))
    with pytest.raises(vs.SchemaError):
        study.withdraw("o1")
    with pytest.raises(vs.PolicyDenied, match="takes part again when it shares") as error:
        study.upload("o0")
    assert error.value.culprits == ("o1",)
    study.upload("o1")
    assert study.count().estimate == 30


def test_spent_keys_answer_no_more_until_the_next_epoch(study):
    for agent in study._backend.agents.values():
        agent.epochs.spend((1 << 20) - 3, 1 << 20)
    study.count()
    with pytest.raises(vs.PolicyDenied, match="make a new key by sharing the rows again") as error:
        study.covariance(["x", "y"])
    assert error.value.code == "epoch_spent"
    study.upload("o0")
    study.covariance(["x", "y"])


def test_rows_that_changed_count_after_the_next_epoch(study):
    before = study.sum("x").estimate
    frame = study._backend.agents["o0"].table._frame
    frame.loc[0, "x"] = (frame.loc[0, "x"] + 1) % 10
    study._backend.agents["o0"].table._codes.clear()
    assert study.sum("x").estimate == before
    study.upload("o0")
    assert study.sum("x").estimate != before


def test_tables_that_do_not_fit_are_refused_before_anything_is_encrypted():
    with pytest.raises(vs.RangeError) as error:
        vs.simulate({**tables(), "o1": pd.DataFrame({"x": [1, 11], "y": [0, 1]})}, SCHEMA, vs.Homomorphic(entry="rows"))
    assert "11" not in error.value.message.replace("o1", "")


def test_the_plan_says_what_is_not_kept_from_anybody(study):
    text = str(study.plan(vs.Mean("x")))
    for words in ("rounded up by at most an eighth", "in which of its columns", "all 3 data owners are needed"):
        assert words in " ".join(text.split())
