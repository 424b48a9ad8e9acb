"""Epochs and queries over encrypted rows, fed by hand: what each party sends can be changed, and what it is told forged."""

import os
from dataclasses import replace

import numpy as np
import pandas as pd

import veilstat as vs
from veilstat.architectures.homomorphic.rows.epoch import Terms
from veilstat.architectures.homomorphic.rows.epoch_owner import EncryptingOwner
from veilstat.architectures.homomorphic.rows.epoch_server import KeepingServer
from veilstat.architectures.homomorphic.rows.quadratic import opened, supports_rows
from veilstat.architectures.homomorphic.rows.query import RowQuery
from veilstat.architectures.homomorphic.rows.query_analyst import release
from veilstat.architectures.homomorphic.rows.query_owner import DecryptingOwner
from veilstat.architectures.homomorphic.rows.query_server import AnsweringServer
from veilstat.architectures.interface import no_noise
from veilstat.architectures.relay import RESULT
from veilstat.arithmetic.agreement import KeyPair
from veilstat.language.cut import Entry, cut
from veilstat.platform.table import Table
from veilstat.protocol.identity import Identity, Roster

NAMES = ("o0", "o1", "o2")
SCHEMA = vs.Schema(vs.Integer("x", lower=0, upper=9), vs.Binary("y"), max_rows=16)
ROWS = 16


def tables(seed=1):
    draw = np.random.default_rng(seed)
    return {
        name: pd.DataFrame({"x": draw.integers(0, 10, 9 + place), "y": draw.choice([0.0, 1.0, np.nan], 9 + place)})
        for place, name in enumerate(NAMES)
    }


class Parties:
    """Owners, a cloud and an analyst with keys, and the study's parameters."""

    def __init__(self, schema=SCHEMA, names=NAMES, smudging=40):
        self.schema, self.names = schema, names
        self.rows = vs.Homomorphic(entry="rows", smudging_bits=smudging).fitted(schema, names)
        self.identities = {name: Identity.from_seed(name, os.urandom(32)) for name in (*names, "server", "analyst")}
        roles = {name: name if name in ("server", "analyst") else "owner" for name in self.identities}
        self.roster = Roster({name: its.public for name, its in self.identities.items()}, roles)
        self.analyst = KeyPair.generate(os.urandom)


class Exchange:
    """A session between owners and the cloud, round by round."""

    def __init__(self, server, owners):
        self.collecting, self.waiting, self.sent, self.finished, self.told = server.following, {}, {}, {}, []
        for name, turn in owners.items():
            self._keep(name, turn)

    def _keep(self, name, turn):
        for message in turn.send:
            self.sent[name, message.round] = bytes(message.payload)
        self.waiting[name] = turn.following
        if turn.following is None:
            self.finished[name] = turn.result

    def step(self, change=lambda sender, payload: payload, forge=lambda recipient, payload: payload):
        """What owners sent reaches the cloud, changed; what the cloud answers reaches the owners, forged."""
        for name in sorted(self.collecting.senders):
            self.collecting.take(name, memoryview(change(name, self.sent[name, self.collecting.name])))
        turn = self.collecting.close()
        self.collecting, self.result = turn.following, turn.result
        for message in turn.send:
            self.told.append(message)
            for name in self.waiting if message.recipient == "parties" else (message.recipient,):
                if message.round != RESULT:
                    self.waiting[name].take("server", memoryview(forge(name, bytes(message.payload))))
                    self._keep(name, self.waiting[name].close())
        return self


def begin_epoch(parties, frames=None, root=None, keep=lambda kept: kept):
    """The first turns of an epoch."""
    frames = frames or tables()
    terms = Terms(root or os.urandom(32), parties.names, parties.roster, parties.schema, parties.rows.parameters, parties.rows.scheme)
    owners = {}
    for name in parties.names:
        rows = Table(name, frames[name], parties.schema).rows(tuple(column.name for column in parties.schema))
        owner = EncryptingOwner(parties.identities[name], "server", terms, rows.columns, len(rows), ROWS, os.urandom, keep)
        owners[name] = owner.start()
    return Exchange(KeepingServer(terms, "parties", keep).start(), owners)


def make_epoch(parties, frames=None):
    """What every party keeps of a whole epoch."""
    run = begin_epoch(parties, frames)
    while run.collecting is not None:
        run.step()
    return {**run.finished, "server": run.result}


def query_cut(parties, statistic):
    [step] = statistic.steps(parties.schema)
    return cut(step.trace(parties.schema, len(parties.names)), Entry.ROWS, supports_rows)


def begin_query(parties, epoch, statistic, context=None, authorise=lambda members: None, noise=no_noise):
    """The first turns of a query, and what everybody knows of it; ``epoch`` may differ from party to party."""
    numbers = opened(query_cut(parties, statistic), parties.schema, parties.rows.parameters)
    query = RowQuery(context or os.urandom(32), parties.names, parties.roster, "server", "analyst", parties.rows.parameters, numbers)

    def located(kept):
        evaluation = parties.rows.evaluation(kept)
        return evaluation, tuple(query.answers(evaluation))

    owners = {}
    for name in parties.names:
        secret = parties.rows.scheme.ring.from_integers(epoch[name].secret.astype(np.int64))
        its = DecryptingOwner(
            parties.identities[name], query, *located(epoch[name]), secret, parties.analyst.public, os.urandom, authorise, noise
        )
        owners[name] = its.start()
    run = Exchange(AnsweringServer(query, *located(epoch["server"])).start(), owners)
    run.query = query
    return run


def finished_query(run):
    for _ in range(3):
        run.step()
    return run


def released(parties, run):
    """The opened integers, from the cloud's last message."""
    [last] = [message for message in run.told if message.round == RESULT]
    raw = memoryview(bytes(last.payload))
    body = raw[4 + int.from_bytes(raw[:4], "little") :]
    return release(run.query, parties.rows.scheme, parties.analyst, parties.names, body).values.tolist()


def without(record, **changes):
    """A record with some fields changed."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return type(record)(**{**fields, **changes})


def with_record(kept, record):
    return replace(kept, record=record)
