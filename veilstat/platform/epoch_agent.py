"""The agent of an owner that encrypts its rows once: it takes part in keys that its person asked for, and counts what is decrypted."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from veilstat.architectures.homomorphic.rows.answers import Kept
from veilstat.architectures.homomorphic.rows.parameters import MOST_ANSWERS
from veilstat.architectures.interface import EpochBinding, KeepsEpochs
from veilstat.errors import PolicyDenied, RangeError, SchemaError, VeilstatError
from veilstat.language.cut import Cut
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import Fault, ProtocolError, violation
from veilstat.protocol.member import Member

from . import epochs
from .agent import Agent, Mandate
from .definition import PARTIES, SERVER, Definition
from .epoch_store import EpochStore
from .planner import Planner
from .upload import padded


class EpochAgent(Agent):
    """One owner's party; ``epoch_store`` keeps everybody's encrypted rows and the owner's share of their key.

    Raises:
        VeilstatError: what is kept is damaged, or of another study.
    """

    beginnings: ClassVar[frozenset[str]] = Agent.beginnings | {epochs.OPEN}

    def __init__(
        self,
        member: Member,
        definition: Definition,
        planner: Planner,
        random: Callable[[int], bytes],
        mandate: Mandate,
        epoch_store: EpochStore,
    ) -> None:
        super().__init__(member, definition, planner, random, mandate)
        if epoch_store.consent.is_withdrawn:
            # A crash may have come between the withdrawal and the loss of the key.
            epoch_store.forget()
        self.epochs, kept = epoch_store, epoch_store.at_start()
        # A record without its key is what a crash between the two left.
        if kept is not None and kept.secret is not None:
            self.kept, self.version = kept, epoch_store.use().table

    def ask_for_key(self) -> None:
        """Ask for a key that all owners make together, and for rows to be encrypted under it, until one is made.

        Raises:
            PolicyDenied: the owner has withdrawn. VeilstatError: the word could not be written down.
        """
        if self.epochs.consent.is_withdrawn:
            raise self._withdrawn()
        self.epochs.consent.ask(self.random(epochs.WISH_BYTES))
        self.tell_wish()

    def tell_wish(self) -> None:
        """Say to the server whether the owner asks for a key."""
        self.say(epochs.asking_root(self.definition, self.roster), epochs.ASK, SERVER, self.epochs.consent.number)

    def give_up_key(self) -> None:
        """Forget the share of the key that rows are encrypted under: nobody can decrypt anything of them any more. The owner
        takes part in no other key until ``rejoin``; what runs with it ends.

        Raises:
            SchemaError: there is none, and none was asked for.
        """
        if self.kept is None and not self.epochs.consent.number:
            raise SchemaError(f"{self.title} holds no share of a key of encrypted rows", code="upload_unknown")
        self.epochs.withdraw()
        self.kept = None
        if self.waiting:
            withdrawn = self._withdrawn()
            self.fail(Fault.of(withdrawn, self.name))
        self.tell_wish()

    def rejoin(self) -> None:
        """Take part in the next key."""
        self.epochs.consent.rejoin()

    def introduce(self) -> None:
        self.tell_wish()

    def on_query(self, envelope: Envelope) -> None:
        if envelope.round == epochs.OPEN and envelope.sender == SERVER:
            self._join_epoch(envelope)
        else:
            super().on_query(envelope)

    def on_finished(self, result: object) -> None:
        super().on_finished(result)
        if isinstance(result, Kept):
            with self._refusing():
                self.epochs.consent.settle()
            self.tell_wish()

    def _join_epoch(self, envelope: Envelope) -> None:
        """Make a key with the other owners, and encrypt all rows under it. A former one stays until then."""
        architecture, schema, opening = self.definition.architecture, self.definition.schema, bytes(envelope.payload)
        assert isinstance(architecture, KeepsEpochs)
        if envelope.root != epochs.epoch_root(self.definition, self.roster, opening):
            self.rejected.append(violation("bad_root", f"{envelope.sender!r} bound a key to another study", envelope.sender).fault)
            return
        try:
            asked = epochs.read_opening(opening, epochs.asking_root(self.definition, self.roster), self.definition.owners, self.roster)
        except ProtocolError as error:
            self.rejected.append(error.fault)
            return
        if asked[self.name] != self.epochs.consent.number:
            self._note_replay(envelope)
            return
        self._turn_to(envelope.root)
        self.fault = None
        try:
            self.epochs.consent.spend(self.random(epochs.WISH_BYTES))
            rows = self.table.rows(tuple(column.name for column in schema))
            binding = EpochBinding(self.identity, self.roster, envelope.root, SERVER, PARTIES, self._keep)
            declared = min(padded(len(rows)), schema.max_rows)
            its = architecture.epoch_owner(binding, rows.columns, len(rows), declared, self.random)
        except VeilstatError as error:
            shown = error
            if isinstance(error, SchemaError | RangeError):
                # The same table would not fit the next time.
                self.epochs.consent.settle()
                shown = self.mandate.conceal(error)
            self.tell_wish()
            self.fail(Fault.of(shown, self.name))
            return
        self.tell_wish()
        self.begin(its.binding.step, its)

    def _keep(self, kept: Kept) -> Kept:
        """Put rows and key of an epoch where they last, in place of the former ones."""
        self.kept = None
        self.kept, self.version = self.epochs.keep(kept, self.mandate.table_version), self.mandate.table_version
        return self.kept

    def _withdrawn(self) -> PolicyDenied:
        return PolicyDenied(
            f"{self.title} has withdrawn its rows; it takes part again when it shares them", code="upload_withdrawn", culprits=(self.name,)
        )

    def _count_answers(self, cut: Cut) -> None:
        with self._refusing():
            self.epochs.spend(cut.size, MOST_ANSWERS)
