"""How long a party in a process of its own waits: only what it awaits makes it patient."""

import pytest

import veilstat as vs
from veilstat.protocol.envelope import NO_STEP, seal
from veilstat.protocol.identity import Identity
from veilstat.testing.tables import small_schema, small_tables
from veilstat.transports.connection import Timeouts
from veilstat.transports.hosting import serve
from veilstat.transports.occurrences import Arrived

PROGRESS = 60.0
STEP = 10.0
OWNER = Identity.from_seed("north", bytes(range(32)))


class Waiting:
    """A party that waits for what never completes, for others after a minute if any are named, and notes when it gives up."""

    def __init__(self, clock, awaited, then):
        self.clock, self.awaited, self.then = clock, frozenset(awaited), frozenset(then)
        self.expired, self.waiting, self.stage = [], True, 0

    def receive(self, frame, carrier=""):
        if self.then and self.clock() == PROGRESS:
            self.awaited = self.then

    def events(self):
        return iter(())

    def lost(self, fault):
        return False

    def expire(self):
        self.expired.append(self.clock())
        self.waiting = False


class Wire:
    """Brings the same frame every ten seconds; everybody is heard of all the time."""

    timeouts = Timeouts(progress=PROGRESS)

    def __init__(self, peer, frame):
        self.seconds, self.arriving = 0.0, [] if frame is None else [Arrived("compute1", peer, frame)]

    def clock(self):
        return self.seconds

    def poll(self, timeout):
        self.seconds += STEP
        return self.arriving

    def silence(self, party, peer):
        return 0.0

    def beat(self, party):
        pass


def gives_up_after(peer, frame, awaited, then=()):
    """Seconds until a server that awaits these gives up; None if it does not for ten minutes."""
    wire = Wire(peer, frame)
    machine = Waiting(wire.clock, awaited, then)
    serve("compute1", machine, wire, {}, lambda occurrence: None, lambda: bool(machine.expired) or wire.seconds > 600)
    return machine.expired[0] if machine.expired else None


def frame_of(sender):
    (frame,) = seal(sender, bytes(32), NO_STEP, "share", "compute1", b"")
    return frame


@pytest.mark.parametrize(
    ("peer", "frame"),
    [("compute2", b"a block of what is awaited"), ("server", frame_of(OWNER))],
)
def test_frames_of_who_is_awaited_keep_a_party_waiting_whoever_brings_them(peer, frame):
    assert gives_up_after(peer, frame, ("compute2", "north")) is None


@pytest.mark.parametrize(
    ("peer", "frame"),
    [(None, None), ("compute3", b"what nobody can read"), ("compute3", frame_of(OWNER)), ("server", frame_of(OWNER))],
)
def test_frames_of_others_make_nobody_patient(peer, frame):
    assert gives_up_after(peer, frame, ("compute2",)) == 2 * PROGRESS


def test_patience_begins_anew_with_what_is_awaited_next():
    assert gives_up_after("server", frame_of(OWNER), ("compute2",), then=("compute3",)) == PROGRESS + 2 * PROGRESS


class Standing:
    """A session, or an upload, that waits for somebody who says nothing."""

    def __init__(self, sender):
        self.waiting_for, self.waiting, self.awaited, self.ended = "share", True, frozenset((sender,)), False

    def expire(self, round_name=""):
        self.ended, self.waiting_for, self.waiting, self.awaited = True, None, False, frozenset()

    def events(self):
        return iter(())


def test_a_query_that_waits_in_vain_ends_no_upload_that_comes_meanwhile():
    study = vs.simulate(small_tables(), small_schema(), vs.Sharing(entry="rows"))
    server = study._backend.network.machines["compute1"]
    server.session, upload = Standing("compute2"), Standing("owner1")
    server.desks = {"owner1": upload}
    for awaited, has_ended in ((frozenset(("compute2",)), False), (frozenset(("owner1",)), False), (frozenset(), True)):
        assert (server.awaited, upload.ended) == (awaited, has_ended)
        server.expire()
