"""Who may have a key made: all owners together, each for itself, and a server that deviates by none of its tricks."""

import os

import pytest

import veilstat as vs
from tests.encrypted_rows import SCHEMA, tables
from veilstat.errors import VeilstatError
from veilstat.platform.epoch_agent import EpochAgent
from veilstat.platform.epoch_store import EpochStore
from veilstat.platform.epochs import ASK, OPEN, encode_opening, epoch_root
from veilstat.platform.key_consent import MOST_ATTEMPTS, KeyConsent
from veilstat.protocol.envelope import NO_STEP, Envelope, seal
from veilstat.protocol.identity import Identity


@pytest.fixture(scope="module")
def study():
    return vs.simulate(tables(), SCHEMA, vs.Homomorphic(entry="rows", smudging_bits=40))


@pytest.fixture
def head(study):
    """Has the server's key, and every word of the owners."""
    its = Head(study)
    yield its
    for agent in its.agents.values():
        agent.epochs.consent.settle()
        agent.rejected.clear()
        agent.root = agent.session = None


class Head:
    def __init__(self, study):
        backend = study._backend
        self.agents, self.definition = backend.agents, backend.definition
        self.identities, self.roster = backend.hosts.identities, backend.hosts.roster

    def words(self):
        """What all owners say when their persons ask for a key."""
        for agent in self.agents.values():
            agent.ask_for_key()
        return {name: list(agent.events())[-1].frame for name, agent in self.agents.items()}

    def opening(self, words, root=None, signed_by="server"):
        payload = encode_opening(words)
        root = root or epoch_root(self.definition, self.roster, payload)
        [frame] = seal(self.identities[signed_by], root, NO_STEP, OPEN, "parties", payload)
        return frame

    def commits(self, name, frame):
        """Whether an owner begins to make a key."""
        agent = self.agents[name]
        agent.rejected.clear()
        agent.receive(frame)
        return any(Envelope.decode(event.frame).round == "epoch_commit" for event in agent.events())

    def refusal(self, name):
        return self.agents[name].rejected[-1].code


def test_a_key_is_begun_with_the_words_of_all_and_never_again_with_the_same(head):
    frame = head.opening(head.words())
    assert head.commits("o0", frame)
    assert not head.commits("o0", frame)
    assert head.refusal("o0") == "already_answered"


def test_nobody_begins_a_key_that_its_person_did_not_ask_for(head):
    words = head.words()
    head.agents["o0"].epochs.consent.settle()
    assert not head.commits("o0", head.opening(words))
    assert head.refusal("o0") == "already_answered"


def test_nobody_begins_a_key_that_others_did_not_ask_for(head):
    words = head.words()
    head.agents["o1"].give_up_key()
    not_asking = list(head.agents["o1"].events())[-1].frame
    head.agents["o1"].rejoin()
    stranger = Identity.from_seed("o1", os.urandom(32))
    root = Envelope.decode(words["o0"]).root
    false = [
        {name: frame for name, frame in words.items() if name != "o1"},
        {**words, "o1": words["o2"]},
        {**words, "o1": not_asking},
        {**words, "o1": b"x" * 100},
        {**words, "o1": words["o1"][:-1] + bytes((words["o1"][-1] ^ 1,))},
        {**words, "o1": next(seal(stranger, root, NO_STEP, ASK, "server", bytes(16)))},
        {**words, "o1": next(seal(head.identities["server"], root, NO_STEP, ASK, "server", bytes(16)))},
        {**words, "o1": next(seal(head.identities["o1"], bytes(32), NO_STEP, ASK, "server", bytes(16)))},
        {**words, "o1": next(seal(head.identities["o1"], root, NO_STEP, "propose", "server", bytes(16)))},
    ]
    for changed in false:
        assert not head.commits("o0", head.opening(changed))
        assert head.refusal("o0") == "not_asked"
    assert head.agents["o0"].kept is not None


def test_words_for_another_study_or_in_another_s_hands_begin_nothing(head):
    words = head.words()
    assert not head.commits("o0", head.opening(words, root=b"\7" * 32))
    assert head.refusal("o0") == "bad_root"
    assert not head.commits("o0", head.opening(words, signed_by="o1"))


def test_what_is_no_opening_ends_nothing(head):
    root = epoch_root(head.definition, head.roster, b"\xc1")
    [frame] = seal(head.identities["server"], root, NO_STEP, OPEN, "parties", b"\xc1")
    assert not head.commits("o0", frame)
    assert head.refusal("o0") == "malformed"


def test_a_server_that_begins_keys_again_and_again_finds_few_words(head):
    words = head.words()
    for _ in range(MOST_ATTEMPTS):
        assert head.commits("o0", head.opening(words))
        agent = head.agents["o0"]
        agent.tell_wish()
        words["o0"] = list(agent.events())[-1].frame
    assert Envelope.decode(words["o0"]).payload == b""
    assert not head.commits("o0", head.opening(words))
    assert head.refusal("o0") == "not_asked"


def test_asking_and_withdrawing_outlive_a_restart(tmp_path):
    KeyConsent(tmp_path).ask(b"1" * 16)
    assert KeyConsent(tmp_path).number == b"1" * 16
    KeyConsent(tmp_path).spend(b"2" * 16)
    assert KeyConsent(tmp_path).number == b"2" * 16
    KeyConsent(tmp_path).withdraw()
    again = KeyConsent(tmp_path)
    assert (again.number, again.is_withdrawn) == (b"", True)
    again.rejoin()
    assert not KeyConsent(tmp_path).is_withdrawn
    assert {place.stat().st_mode & 0o777 for place in tmp_path.iterdir()} <= {0o600}


def test_a_withdrawal_that_a_crash_cut_off_asks_for_no_key(tmp_path, monkeypatch):
    KeyConsent(tmp_path).ask(b"1" * 16)
    monkeypatch.setattr(KeyConsent, "settle", crashed)
    with pytest.raises(Crash):
        KeyConsent(tmp_path).withdraw()
    assert KeyConsent(tmp_path).number == b""


def test_a_withdrawal_that_a_crash_cut_off_is_finished_when_the_agent_starts(study, monkeypatch):
    agent = study._backend.agents["o1"]
    study.upload("o1")
    monkeypatch.setattr(EpochStore, "forget", crashed)
    with pytest.raises(Crash):
        agent.give_up_key()
    monkeypatch.undo()
    assert agent.epochs.kept() is not None
    again = EpochAgent(agent.member, agent.definition, agent.planner, agent.random, agent.mandate, agent.epochs)
    assert again.kept is None
    assert agent.epochs.kept() is None
    study.upload("o1")
    assert study.count().estimate == 30


def test_a_word_that_cannot_be_taken_back_is_an_error_and_the_key_is_made_all_the_same(study, monkeypatch):
    def full(consent):
        raise VeilstatError("the word could not be removed", code="disk_failed")

    monkeypatch.setattr(KeyConsent, "settle", full)
    with pytest.raises(VeilstatError, match="data owner 'o0': the word") as error:
        study.upload("o0")
    monkeypatch.undo()
    assert error.value.culprits == ("o0",)
    assert study.count().estimate == 30


class Crash(Exception):
    pass


def crashed(its):
    raise Crash


def test_a_damaged_word_is_named(tmp_path):
    KeyConsent(tmp_path).ask(b"1" * 16)
    (tmp_path / "wish").write_bytes(b"\xc1")
    with pytest.raises(VeilstatError, match="wish") as error:
        _ = KeyConsent(tmp_path).number
    assert error.value.code == "epoch_damaged"


def test_what_others_are_told_of_a_damaged_record_names_no_directory(tmp_path):
    """Its own person is told at start-up: test_encrypted_rows_errands."""
    store = EpochStore(tmp_path, bytes(32))
    (tmp_path / "wish").write_bytes(b"\xc1")
    (tmp_path / "epoch").write_bytes(b"x" * 500)
    for read in (store.kept, lambda: store.consent.number):
        with pytest.raises(VeilstatError) as error:
            read()
        assert str(tmp_path) not in error.value.message


def test_an_owner_that_gives_up_its_key_while_one_is_made_ends_that_and_keeps_nothing(study):
    backend = study._backend
    for agent in backend.agents.values():
        agent.ask_for_key()
    backend.network.settle()
    backend.coordinator.open_epoch()
    backend.network._deliver_all = lambda: None
    backend.network._collect()
    del backend.network._deliver_all
    backend.agents["o1"].receive(backend.network._queue[1][2])
    backend.agents["o1"].give_up_key()
    backend.network.settle()
    assert {agent.fault.code for agent in backend.agents.values()} == {"upload_withdrawn"}
    assert backend.agents["o1"].epochs.kept() is None
    assert backend.coordinator.wishes.keys() == {"o0", "o2"}
    study.upload("o1")
    assert study.count().estimate == 30


def test_an_analyst_waits_while_a_key_is_made_and_does_not_end_it(study):
    backend = study._backend
    for agent in backend.agents.values():
        agent.ask_for_key()
    backend.network.settle()
    backend.coordinator.open_epoch()
    with pytest.raises(vs.QuorumLost) as error:
        study.count()
    assert error.value.code == "epoch_running"
    backend.network.settle()
    assert backend.coordinator.fault is None
    assert study.count().estimate == 30
