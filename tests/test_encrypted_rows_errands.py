"""What an owner's person does with encrypted rows, and with what files an agent starts, without a process."""

import asyncio

import numpy as np
import pytest

import veilstat as vs
from tests.deployments import SECRET, TABLES
from tests.deviating import Head, now
from veilstat.architectures.homomorphic.rows.answers import Kept, Record
from veilstat.platform.deployment.encrypted_rows import EncryptedRows, KeyLog
from veilstat.platform.deployment.journal import Journal
from veilstat.platform.epoch_store import EpochStore
from veilstat.platform.key_consent import MOST_ATTEMPTS
from veilstat.protocol.envelope import Envelope

RECORD = Record(
    bytes(32), b"\7" * 32, {"north": 32, "south": 32, "west": 32}, [], memoryview(b"k"), memoryview(b"r"), {"north": memoryview(b"c")}
)
KEPT = Kept(RECORD, np.array([1, 0, -1], dtype=np.int8))


@pytest.fixture
def head(tmp_path):
    """Agents with their files."""
    return Head(tmp_path, "homomorphic", 'entry = "rows"\nsmudging_bits = 40')


class Person:
    def __init__(self, head, name="north"):
        self.agent, self.told = head.wake(name), []
        self.rows = EncryptedRows(self.agent, KeyLog(self.agent, Journal(head.folder / f"{name}/owner.log", now)), self.speak)

    def speak(self):
        self.told += [Envelope.decode(event.frame) for event in self.agent.events()]

    def do(self, verb):
        heard = []
        asyncio.run(getattr(self.rows, verb)(heard.append))
        return " / ".join(heard)


def test_asking_is_told_to_the_coordinator_and_outlives_the_agent(head):
    person = Person(head)
    assert "no rows are encrypted" in person.do("show")
    assert f"of {MOST_ATTEMPTS} attempts" in person.do("share")
    assert [word.round for word in person.told] == ["epoch_ask"]
    again = Person(head)
    assert "a key is asked for" in again.do("show")
    again.agent.tell_wish()
    again.speak()
    assert again.told[0].payload == person.told[0].payload


def test_a_key_that_is_held_is_shown_with_what_is_spent_of_it(head):
    head.agents["north"].epochs.keep(KEPT, head.agents["north"].mandate.table_version)
    person = Person(head)
    person.agent.epochs.spend(1234, 1 << 20)
    shown = Person(head).do("show")
    assert shown == f"epoch {'07' * 8}: rows declared, rounded up: north 32, south 32, west 32; 1,234 of 1,048,576 answers are spent"


def test_a_key_is_given_up_for_good_until_rows_are_shared_again(head):
    head.agents["north"].epochs.keep(KEPT)
    assert "gone" in Person(head).do("withdraw")
    person = Person(head)
    assert "has withdrawn" in person.do("show")
    assert not (head.folder / "north/epoch/secret").exists()
    with pytest.raises(vs.SchemaError) as error:
        person.do("withdraw")
    assert error.value.code == "upload_unknown"
    person.do("share")
    assert "has withdrawn" not in Person(head).do("show")


def test_who_only_asked_can_take_that_back(head):
    person = Person(head)
    person.do("share")
    person.do("withdraw")
    assert [bool(word.payload) for word in person.told] == [True, False]


def test_rows_that_do_not_fit_are_told_to_their_person_and_nothing_is_asked(head):
    TABLES["north"].assign(bp=SECRET * 2).to_csv(head.folder / "north.csv", index=False)
    person = Person(head)
    with pytest.raises(vs.RangeError, match="bp"):
        person.do("share")
    assert (person.told, person.agent.epochs.consent.number) == ([], b"")


def test_answers_count_as_answers_over_the_rows_that_were_encrypted(head):
    """Not over those that the file holds by now: else the record of openings would take one table for another."""
    head.agents["north"].epochs.keep(KEPT, head.agents["north"].mandate.table_version)
    former = head.agents["north"].mandate.table_version
    TABLES["north"].iloc[1:].to_csv(head.folder / "north.csv", index=False)
    person = Person(head)
    assert person.agent.version == former != person.agent.mandate.table_version
    assert "the table has changed since" in person.do("show")


def of_another_study(folder):
    EpochStore(folder, bytes(32)).keep(KEPT)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda folder: (folder / "epoch").write_bytes(b"x" * 500), "epoch_damaged"),
        (lambda folder: (folder / "secret").write_bytes(b""), "epoch_damaged"),
        (lambda folder: (folder / "used").unlink(), "epoch_damaged"),
        (lambda folder: (folder / "wish").write_bytes(b"x"), "epoch_damaged"),
        (of_another_study, "epoch_foreign"),
        (lambda folder: folder.chmod(0o755), "readable_by_others"),
    ],
)
def test_an_agent_does_not_start_on_files_that_are_not_as_it_left_them(head, change, code):
    head.agents["north"].epochs.keep(KEPT)
    change(head.folder / "north/epoch")
    with pytest.raises(vs.VeilstatError) as error:
        head.wake("north")
    assert error.value.code == code
    assert "north/epoch" in error.value.message


def test_a_record_without_its_key_is_as_good_as_none(head):
    """What a crash between the two leaves."""
    head.agents["north"].epochs.keep(Kept(RECORD))
    assert "no rows are encrypted" in Person(head).do("show")
