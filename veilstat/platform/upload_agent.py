"""The agent of an owner that shares its rows once with the compute servers: it uploads and withdraws, and queries pass it by."""

from __future__ import annotations

from collections.abc import Callable

from veilstat.architectures.sharing.uploads import UPLOAD_BITS, Header, deal
from veilstat.errors import SchemaError
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import QUORUM, Fault
from veilstat.protocol.member import Member
from veilstat.protocol.session import Turn

from . import upload
from .agent import Agent, Mandate
from .definition import Definition
from .planner import Planner

_ROOT_BYTES = 32
_IDENTIFIER_BYTES = 16
_REPLIES = {upload.ASK: upload.HELD, upload.WITHDRAW: upload.WITHDRAWN}


class UploadAgent(Agent):
    """One owner's party. One thing at a time: ``ask_versions``, and with its answers ``offer_rows`` or ``withdraw_rows``."""

    def __init__(self, member: Member, definition: Definition, planner: Planner, random: Callable[[int], bytes], mandate: Mandate) -> None:
        super().__init__(member, definition, planner, random, mandate)
        self.held: dict[str, upload.Held] = {}
        """What each compute server says that it holds of this owner."""
        self.offered: Header | None = None
        """What everybody may know of the last upload that was begun."""
        self._silent: set[str] = set()
        """Compute servers that have not answered what this owner asked them."""
        self._reply: str | None = None
        """The round in which they answer it."""

    def ask_versions(self) -> None:
        """Ask all compute servers which versions of this owner's rows they hold; ``held`` collects the answers."""
        self.held = {}
        self._ask_servers(upload.ASK, self.random(_ROOT_BYTES), b"")

    def offer_rows(self) -> None:
        """With the answers of all servers, begin to share this owner's rows with them, as a version that none of them has seen.

        Raises:
            SchemaError, RangeError: the table does not fit the schema.
        """
        schema = self.definition.schema
        rows = self.table.rows(tuple(column.name for column in schema))
        header = Header(
            owner=self.name,
            version=1 + max(held.largest for held in self.held.values()),
            schema=schema.digest.hex(),
            complete=(),
            rows=min(upload.padded(len(rows)), schema.max_rows),
            ring_bits=UPLOAD_BITS,
            identifier=self.random(_IDENTIFIER_BYTES).hex(),
            terms=self.policy.to_json(),
        )
        self.offered = header
        root, planes = upload.upload_root(header, self.roster), deal(header, schema, rows.columns, len(rows), self.random)
        self._tell_servers(upload.OFFER, root, header.to_bytes())
        first = Turn((), upload.SendPlanes(self.roster, 0, self.identity, root, planes, self.random))
        its = upload.session(self.identity, self.roster, root, self.definition.servers, first)
        self.begin(its.binding.step, its)

    def withdraw_rows(self) -> None:
        """With the answers of all servers, ask them to remove what they hold of this owner.

        Raises:
            SchemaError: none of them holds anything.
        """
        version = max(held.stored for held in self.held.values())
        if version == 0:
            raise SchemaError(f"{self.title} has uploaded nothing, or has withdrawn it", code="upload_unknown")
        root = upload.withdrawal_root(self.name, version, self.roster)
        self._ask_servers(upload.WITHDRAW, root, version.to_bytes(upload.VERSION_BYTES, "little"))

    @property
    def waiting(self) -> bool:
        return bool(self._silent) or super().waiting

    def expire(self) -> None:
        if self._silent:
            lost = tuple(sorted(self._silent))
            self.fail(
                Fault(QUORUM, "no_answer", f"{', '.join(lost)} did not answer about these rows; try again once they are reachable", lost)
            )
        else:
            super().expire()

    def on_query(self, envelope: Envelope) -> None:
        role = self.roster.roles[envelope.sender]
        if role == "analyst":
            # Servers answer for this owner; what was meant for them must not end an upload.
            self._note_stranger(envelope)
        elif role != "compute" or envelope.round != self._reply or envelope.root != self.root:
            super().on_query(envelope)
        else:
            if envelope.round == upload.HELD:
                self.held[envelope.sender] = upload.read_held(envelope.payload, envelope.sender)
            self._silent.discard(envelope.sender)

    def on_failed(self, fault: Fault) -> None:
        self._silent = set()

    def _ask_servers(self, round_name: str, root: bytes, payload: bytes) -> None:
        """Begin something that every compute server answers with one message."""
        self._tell_servers(round_name, root, payload)
        self._silent, self._reply = set(self.definition.servers), _REPLIES[round_name]

    def _tell_servers(self, round_name: str, root: bytes, payload: bytes) -> None:
        """Begin something with all compute servers, whatever ran before."""
        self._turn_to(root)
        self._silent, self._reply, self.fault = set(), None, None
        for server in self.definition.servers:
            self.send(round_name, server, payload)
