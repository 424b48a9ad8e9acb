"""Where an owner brings its rows to a compute server, replaces them and takes them back, whatever query or upload runs meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from veilstat.architectures.sharing.uploads import Header, planes
from veilstat.errors import ProtocolViolation, VeilstatError
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import Fault, ProtocolError, violation
from veilstat.protocol.member import Member
from veilstat.protocol.session import ABORT, encode_fault

from . import messages, upload
from .definition import Definition
from .party import Party
from .policy import Policy
from .upload_store import Incoming, UploadStore


class UploadDesk(Party):
    """What a compute server is to one owner. A new upload takes the place of one that the owner began and left.

    Args:
        store: where rows are kept. withdrawn: called once they are gone.
    """

    beginnings: ClassVar[frozenset[str]] = frozenset((upload.ASK, upload.OFFER, upload.WITHDRAW))

    def __init__(self, member: Member, definition: Definition, store: UploadStore, withdrawn: Callable[[], None]) -> None:
        super().__init__(member, definition)
        self.store, self.withdrawn = store, withdrawn
        self.incoming: Incoming | None = None

    def others(self) -> tuple[str, ...]:
        return ()

    def on_finished(self, result: object) -> None:
        """The owner's rows are on disk."""
        self.incoming = None

    def on_failed(self, fault: Fault) -> None:
        self._leave()

    def _leave(self) -> None:
        """What was begun comes to nothing."""
        if self.incoming is not None:
            self.incoming.discard()
            self.incoming = None

    def on_query(self, envelope: Envelope) -> None:
        """The owner asks what is held of it, offers its rows, or withdraws them."""
        if envelope.round == upload.ASK:
            self._say_held(envelope)
            return
        if envelope.round == upload.OFFER and envelope.root == self.root:
            self._note_replay(envelope)
            return
        self._leave()
        self._turn_to(envelope.root)
        try:
            match envelope.round:
                case upload.OFFER:
                    self._receive_offer(envelope)
                case upload.WITHDRAW:
                    self._withdraw(envelope)
                case _:
                    raise violation("unknown_round", f"{envelope.sender!r} sent a message of an unknown round", envelope.sender)
        except VeilstatError as error:
            fault = upload.fault_at(self.name, error)
            self._refuse(envelope, replace(fault, culprits=(envelope.sender,)) if isinstance(error, ProtocolViolation) else fault)
        except ProtocolError as error:
            self._refuse(envelope, error.fault)

    def _say_held(self, envelope: Envelope) -> None:
        """Whatever runs goes on."""
        try:
            header = self.store.header(envelope.sender)
            held = upload.Held(0 if header is None else header.version, self.store.largest_version(envelope.sender))
        except VeilstatError as error:
            self._refuse(envelope, replace(upload.fault_at(self.name, error), culprits=(self.name,)))
            return
        self.say(envelope.root, upload.HELD, envelope.sender, messages.encode(held))

    def _receive_offer(self, envelope: Envelope) -> None:
        owner, header = envelope.sender, Header.from_bytes(bytes(envelope.payload))
        if upload.upload_root(header, self.roster) != envelope.root:
            raise violation("bad_root", f"{owner!r} bound an upload to another root", owner)
        if Policy.from_json(header.terms).digest != self.definition.policies.get(owner):
            raise violation("policy_differs", f"{owner!r} offered rows under another policy than it published", owner)
        self.incoming = self.store.begin(owner, header)
        count = len(planes(self.definition.schema, header.complete))
        collect = upload.CollectPlanes(self.identity, owner, envelope.root, count, 2 * header.plane_bytes, self.incoming)
        its = upload.session(self.identity, self.roster, envelope.root, (owner,), collect.start())
        self.begin(its.binding.step, its)

    def _withdraw(self, envelope: Envelope) -> None:
        owner = envelope.sender
        self.store.withdraw(owner, upload.withdrawn_version(envelope.payload, owner, envelope.root, self.roster))
        self.withdrawn()
        self.say(envelope.root, upload.WITHDRAWN, owner, b"")

    def _refuse(self, envelope: Envelope, fault: Fault) -> None:
        self.say(envelope.root, ABORT, envelope.sender, encode_fault(fault))
