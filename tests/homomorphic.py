"""One session of encrypted totals fed by hand, for tests that look at, alter, repeat or lose what is sent."""

import os

import numpy as np
import pytest

from veilstat.architectures.homomorphic.messages import decode_parts, encode_parts, read_ciphertexts
from veilstat.architectures.homomorphic.totals import mouchet21 as paper
from veilstat.architectures.homomorphic.totals.bfv import scheme
from veilstat.architectures.homomorphic.totals.mouchet21_owner import Owner
from veilstat.architectures.homomorphic.totals.mouchet21_server import Server
from veilstat.architectures.homomorphic.totals.mouchet22_owner import DealingOwner
from veilstat.architectures.homomorphic.totals.mouchet22_server import DealingServer
from veilstat.architectures.homomorphic.totals.parameters import choose_parameters
from veilstat.architectures.relay import RESULT
from veilstat.protocol.faults import ProtocolError
from veilstat.protocol.identity import Identity, Roster

CONTEXT = bytes(range(32))
SIZE = 5
FIVE = ("o0", "o1", "o2", "o3", "o4")


def authorised(members):
    pass


class Run:
    """One session fed by hand: rounds of three owners, the cloud and the analyst, and everything that was sent."""

    def __init__(self, bits=18, authorise=authorised, smudging=40, names=("o0", "o1", "o2"), threshold=2, kinds=(Owner, Server)):
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

    def steps(self, rounds):
        """So many rounds in which everybody is honest."""
        for _ in range(rounds):
            self.step()
        return self

    def shares(self, names):
        """What these owners sent to decrypt."""
        size = self.scheme.parameters.vector_bytes
        sent = {name: memoryview(self.sent[name, paper.DECRYPT]) for name in names}
        return {name: read_ciphertexts(self.scheme.ring, raw, size, name) for name, raw in sent.items()}

    def switched(self):
        """The sum under the analyst's key."""
        size = self.scheme.parameters.vector_bytes
        return read_ciphertexts(self.scheme.ring, memoryview(self.result)[-size:], size, "server")

    def total(self):
        """What the analyst decrypts."""
        return self.scheme.decrypt_vector(self.switched(), self.analyst, [self.low] * SIZE).tolist()

    def sum_of(self, names):
        """What the analyst should decrypt."""
        return [sum(int(self.vectors[name][place]) for name in names) for place in range(SIZE)]


def dealing(rounds=0, names=FIVE, threshold=3, **options):
    """A session in which any ``threshold`` of the owners decrypt, after so many rounds."""
    return Run(names=names, threshold=threshold, kinds=(DealingOwner, DealingServer), **options).steps(rounds)


def rewritten(size, change):
    """What ``step`` forges where the cloud passes on ``change(recipient, parts)``, parts of ``size`` bytes by their senders."""

    def forge(recipient, payload):
        parts = {name: bytes(raw) for name, raw in decode_parts(memoryview(payload), size, "server").items()}
        return encode_parts(change(recipient, parts))

    return forge


def refused(run, culprit, words, **step):
    with pytest.raises(ProtocolError, match=words) as error:
        run.step(**step)
    assert error.value.fault.culprits == (culprit,)


def width(ring, values):
    """The mean distance from zero, 1 for what is uniform modulo Q."""
    distances = [min(int(value) % ring.modulus, -int(value) % ring.modulus) for value in values]
    return sum(distances) / len(distances) / (ring.modulus / 4)


def scaled(its, vector):
    """round(Q m / t), for the plaintext polynomials of a vector that fits one block, in Python integers."""
    messages = []
    for transform in its.plaintexts:
        slots = np.zeros(its.parameters.degree, dtype=np.uint64)
        slots[: len(vector)] = [int(value) % transform.prime for value in vector]
        plain = [int(value) for value in transform.inverse(slots)]
        messages.append(np.array([(value * its.ring.modulus + transform.prime // 2) // transform.prime for value in plain], dtype=object))
    return messages


def noise(its, ciphertext, secret, message):
    """The largest coefficient of c0 + c1 s - message, centred."""
    modulus = its.ring.modulus
    distance = (its.phase(ciphertext, secret) - message) % modulus
    return int(max(min(value, modulus - value) for value in distance))
