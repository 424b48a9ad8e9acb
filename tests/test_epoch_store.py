"""Encrypted rows on disk: complete or absent, bound to their study, and given up with the key; embedded studies that lose somebody."""

import os
import stat

import pandas as pd
import pytest

import veilstat as vs
from tests.encrypted_rows import SCHEMA, begin_query, finished_query, released, tables
from veilstat.architectures.homomorphic.rows.answers import Kept
from veilstat.errors import VeilstatError
from veilstat.platform.epoch_store import EpochStore
from veilstat.platform.epochs import OPEN, epoch_root
from veilstat.protocol.envelope import NO_STEP, Envelope, seal
from veilstat.testing import Dropout, Lie, Tamper

STUDY = bytes(32)


@pytest.fixture
def store(tmp_path):
    return EpochStore(tmp_path, STUDY)


def code_of(call):
    with pytest.raises(VeilstatError) as error:
        call()
    return error.value.code


def kept_by(store, kept):
    stored = Kept(store.keep(kept.record), kept.secret)
    store.keep_secret(stored)
    return stored


def test_after_a_restart_owners_and_cloud_answer_as_before(parties, epoch, tmp_path):
    again = {}
    for name, kept in epoch.items():
        (tmp_path / name).mkdir()
        here = EpochStore(tmp_path / name, STUDY)
        kept_by(here, kept) if kept.secret is not None else here.keep(kept.record)
        again[name] = EpochStore(tmp_path / name, STUDY).kept()
    assert again["server"].secret is None
    run = finished_query(begin_query(parties, again, vs.Sum("x")))
    assert sum(int(frame["x"].sum()) for frame in tables().values()) in released(parties, run)


def test_files_are_readable_by_nobody_else(store, epoch):
    kept_by(store, epoch["o0"])
    modes = {place.name: stat.S_IMODE(place.stat().st_mode) for place in store.directory.iterdir()}
    assert modes == {"epoch": 0o600, "secret": 0o600, "spent": 0o600}
    assert epoch["o0"].secret.tobytes() not in (store.directory / "epoch").read_bytes()


@pytest.mark.parametrize("place", [0, 20, 60, 90, 5_000, -1])
def test_a_damaged_file_is_refused(store, epoch, place):
    kept_by(store, epoch["o0"])
    file = store.directory / "epoch"
    raw = bytearray(file.read_bytes())
    raw[place] ^= 1
    file.write_bytes(raw)
    assert code_of(store.kept) in ("epoch_damaged", "epoch_foreign")


def test_a_truncated_or_empty_file_is_refused(store, epoch):
    kept_by(store, epoch["o0"])
    file = store.directory / "epoch"
    whole = file.read_bytes()
    for length in (len(whole) - 1, 40, 0):
        file.write_bytes(whole[:length])
        assert code_of(store.kept) == "epoch_damaged"


def test_a_record_of_another_study_is_refused(store, epoch):
    store.keep(epoch["o0"].record)
    assert code_of(EpochStore(store.directory, b"\1" * 32).kept) == "epoch_foreign"


def test_a_share_of_another_epochs_key_is_refused(store, epoch):
    kept_by(store, epoch["o0"])
    secret = store.directory / "secret"
    secret.write_bytes(b"\1" * 32 + secret.read_bytes()[32:])
    assert code_of(store.kept) == "epoch_damaged"


def test_a_crash_while_writing_leaves_no_key_without_its_record(store, epoch, monkeypatch):
    kept_by(store, epoch["o0"])
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert code_of(lambda: store._replace(store._record, (b"x",))) == "disk_failed"
    monkeypatch.undo()
    assert store.kept().secret is not None


def test_answers_are_counted_before_they_are_decrypted_and_across_restarts(store, epoch):
    kept_by(store, epoch["o0"])
    store.spend(7, 10)
    again = EpochStore(store.directory, STUDY)
    assert code_of(lambda: again.spend(4, 10)) == "epoch_spent"
    again.spend(3, 10)
    assert code_of(lambda: store.spend(1, 10)) == "epoch_spent"
    kept_by(store, epoch["o0"])
    store.spend(10, 10)


def test_what_was_forgotten_is_gone(store, epoch):
    kept_by(store, epoch["o0"])
    store.forget()
    assert store.kept() is None
    assert list(store.directory.iterdir()) == []


def test_a_withdrawal_outlives_a_restart(store, epoch):
    kept_by(store, epoch["o0"])
    store.withdraw()
    again = EpochStore(store.directory, STUDY)
    assert again.is_withdrawn
    assert again.kept() is None
    again.rejoin()
    assert not EpochStore(store.directory, STUDY).is_withdrawn


def test_a_key_that_cannot_be_written_is_not_used(study, monkeypatch):
    """The disk fails when the share of the key is written: the epoch ends, and nobody decrypts under it."""

    def full(*arguments):
        raise VeilstatError("no space", code="disk_failed")

    monkeypatch.setattr(EpochStore, "keep_secret", full)
    with pytest.raises(VeilstatError):
        study.upload("o0")
    monkeypatch.undo()
    with pytest.raises(vs.CapabilityError):
        study.mean("x")


def test_a_directory_must_exist(tmp_path):
    assert code_of(lambda: EpochStore(tmp_path / "nowhere", STUDY)) == "no_directory"


# embedded studies


def simulated(faults=(), smudging=40):
    return vs.simulate(tables(), SCHEMA, vs.Homomorphic(entry="rows", smudging_bits=smudging), faults=faults)


@pytest.fixture
def study():
    return simulated()


@pytest.mark.parametrize("round_name", ["epoch_commit", "epoch_reveal", "epoch_upload"])
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


def test_an_upload_altered_on_the_way_names_its_claimed_sender():
    with pytest.raises(vs.ProtocolViolation) as error:
        simulated([Tamper("o2", "epoch_upload")])
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
    with pytest.raises(vs.PolicyDenied, match="takes part again when it uploads") as error:
        study.upload("o0")
    assert error.value.culprits == ("o1",)
    study.upload("o1")
    assert study.count().estimate == 30


def test_spent_keys_answer_no_more_until_the_next_epoch(study):
    for agent in study._backend.agents.values():
        agent.epochs.spend((1 << 20) - 3, 1 << 20)
    study.count()
    with pytest.raises(vs.PolicyDenied, match="make a new key by uploading again") as error:
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


def opening(study, identifier, root=None):
    """The cloud's word that opens an epoch."""
    backend = study._backend
    root = root or epoch_root(backend.definition, backend.hosts.roster, identifier)
    [frame] = seal(backend.hosts.identities["server"], root, NO_STEP, OPEN, "parties", identifier)
    return frame


def test_an_epoch_is_opened_once_and_for_this_study_only(study):
    agent = study._backend.agents["o0"]
    kept = agent.kept
    agent.receive(opening(study, bytes(16), root=b"\7" * 32))
    assert agent.rejected[-1].code == "bad_root"
    assert agent.kept is kept
    agent.receive(opening(study, bytes(16)))
    first = [event.frame for event in agent.events()]
    assert len(first) == 1
    agent.receive(opening(study, bytes(16)))
    assert agent.rejected[-1].code == "already_answered"
    assert list(agent.events()) == []


def test_nobody_but_the_server_opens_an_epoch(study):
    backend = study._backend
    root = epoch_root(backend.definition, backend.hosts.roster, bytes(16))
    [frame] = seal(backend.hosts.identities["o1"], root, NO_STEP, OPEN, "parties", bytes(16))
    agent = backend.agents["o0"]
    kept = agent.kept
    agent.receive(frame)
    assert agent.kept is kept
    assert not any(Envelope.decode(event.frame).round == "epoch_commit" for event in agent.events())


def test_tables_that_do_not_fit_are_refused_before_anything_is_encrypted():
    with pytest.raises(vs.RangeError) as error:
        vs.simulate({**tables(), "o1": pd.DataFrame({"x": [1, 11], "y": [0, 1]})}, SCHEMA, vs.Homomorphic(entry="rows"))
    assert "11" not in error.value.message.replace("o1", "")


def test_the_plan_says_what_is_not_kept_from_anybody(study):
    text = str(study.plan(vs.Mean("x")))
    for words in ("rounded up by at most an eighth", "in which of its columns", "all 3 data owners are needed"):
        assert words in " ".join(text.split())
