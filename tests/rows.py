"""Tables of several owners uploaded to three servers in one process, for tests of protocols on rows."""

import os

import numpy as np

from tests.sharing import opened, parties, run_three
from veilstat.architectures.sharing.protocols.field import Field
from veilstat.architectures.sharing.rows.totals import row_totals
from veilstat.architectures.sharing.uploads import Header, UploadedRows, deal, expand, planes
from veilstat.language.circuit import Op
from veilstat.platform.table import Table

FIELD = Field(521)


def uploaded(schema, tables, complete=(), bits=64, padding=3):
    """For each server the uploads of all owners. ``complete`` is a tuple for all owners, or one per owner."""
    servers = [[], [], []]
    for owner, frame in tables.items():
        declared = complete[owner] if isinstance(complete, dict) else complete
        head = Header(owner, 1, schema.digest.hex(), tuple(declared), len(frame) + padding, bits, os.urandom(16).hex())
        encoded = Table(owner, frame, schema).rows(tuple(column.name for column in schema))
        dealt = list(deal(head, schema, encoded.columns, len(frame), os.urandom))
        for server in range(3):
            words = np.stack([expand(head, server, payloads[server]) for payloads in dealt])
            servers[server].append(UploadedRows(head, planes(schema, head.complete), words))
    return servers


def totals_of(circuit, uploads, public=None, shared=None, field=FIELD):
    """(values of all INNER nodes by place, the run)."""
    places = tuple(place for place, node in enumerate(circuit.nodes) if node.op is Op.INNER)
    shared = shared or [{}, {}, {}]
    run = run_three(
        row_totals(party, circuit, places, uploads[party.index], field, public or {}, shared[party.index]) for party in parties()
    )
    return {place: opened(field, [result[place] for result in run.results]) for place in places}, run


class Pooled:
    """Everybody's rows in the clear."""

    def __init__(self, schema, tables):
        names = tuple(column.name for column in schema)
        self.tables = [Table(owner, frame, schema).rows(names) for owner, frame in tables.items()]

    def __len__(self):
        return sum(map(len, self.tables))

    def blocks(self):
        for table in self.tables:
            yield from table.blocks()
