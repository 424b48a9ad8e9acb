"""One session of encrypted totals fed by hand, for tests that look at, alter, repeat or lose what is sent."""

import os

import numpy as np
import pytest

from veilstat.architectures.homomorphic.messages import read_ciphertexts
from veilstat.architectures.homomorphic.totals.bfv import scheme
from veilstat.architectures.homomorphic.totals.mouchet21_owner import Owner
from veilstat.architectures.homomorphic.totals.mouchet21_server import Server
from veilstat.architectures.homomorphic.totals.parameters import choose_parameters
from veilstat.architectures.relay import RESULT
from veilstat.protocol.faults import ProtocolError
from veilstat.protocol.identity import Identity, Roster

CONTEXT = bytes(range(32))
SIZE = 5


def authorised(members):
    pass


class Run:
    """One session fed by hand: rounds of three owners, the cloud and the analyst, and everything that was sent."""

    def __init__(self, bits=40, authorise=authorised, smudging=64, names=("o0", "o1", "o2"), threshold=2, kinds=(Owner, Server)):
        self.names = names
        self.scheme = scheme(choose_parameters(bits, SIZE, len(names), smudging))
        self.identities = {name: Identity.from_seed(name, os.urandom(32)) for name in (*names, "server", "analyst")}
        roles = {name: name if name in ("server", "analyst") else "owner" for name in self.identities}
        roster = Roster({name: its.public for name, its in self.identities.items()}, roles)
        ring = self.scheme.ring
        self.low = -(1 << (bits - 1))
        draw = np.random.default_rng(bits)
        span = (1 << bits) // len(names) - 1
        self.vectors = {
            name: np.array([int.from_bytes(draw.bytes(32), "little") % span + self.low // len(names) for _ in range(SIZE)], dtype=object)
            for name in names
        }
        self.analyst = ring.from_integers(self.scheme.secret(os.urandom))
        common = ring.uniform(b"analyst")
        recipient = np.stack([self.scheme.public_share(common, self.analyst, os.urandom), common])
        as_owner, as_server = kinds
        self.server = as_server("analyst", roster, names, threshold, CONTEXT, self.scheme)
        self.collecting = self.server.start().following
        self.waiting, self.sent = {}, {}
        for name in names:
            owner = as_owner(
                self.identities[name],
                roster,
                "server",
                names,
                threshold,
                CONTEXT,
                self.scheme,
                self.vectors[name],
                recipient,
                os.urandom,
                authorise,
            )
            self.keep(name, owner.start())

    def keep(self, name, turn):
        for message in turn.send:
            self.sent[name, message.round] = bytes(message.payload)
        self.waiting[name] = turn.following

    def step(self, change=lambda sender, payload: payload, forge=lambda recipient, payload: payload, lost=()):
        """What owners sent reaches the cloud, changed; what the cloud answers reaches the owners, forged."""
        collecting = self.collecting
        for name in sorted(collecting.senders):
            if name not in lost:
                collecting.take(name, memoryview(change(name, self.sent[name, collecting.name])))
        turn = collecting.close()
        self.collecting = turn.following
        for message in turn.send:
            payload = forge(message.recipient, bytes(message.payload))
            if message.round == RESULT:
                self.result = payload
                continue
            waiting = self.waiting[message.recipient]
            waiting.take("server", memoryview(payload))
            self.keep(message.recipient, waiting.close())
        return self

    def total(self):
        size = self.scheme.parameters.vector_bytes
        ciphertexts = read_ciphertexts(self.scheme.ring, memoryview(self.result)[-size:], size, "server")
        return self.scheme.decrypt_vector(ciphertexts, self.analyst, [self.low] * SIZE)


def flipped(payload, place=-1):
    changed = bytearray(payload)
    changed[place] ^= 1
    return bytes(changed)


def refused(run, culprit, words, **step):
    with pytest.raises(ProtocolError, match=words) as error:
        run.step(**step)
    assert error.value.fault.culprits == (culprit,)


def noise(its, ciphertext, secret, message):
    """The largest coefficient of c0 + c1 s - message, centred."""
    modulus = its.ring.modulus
    distance = (its.phase(ciphertext, secret) - message) % modulus
    return int(max(min(value, modulus - value) for value in distance))
