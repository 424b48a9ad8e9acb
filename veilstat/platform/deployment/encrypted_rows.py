"""`veilstat rows` where owners encrypt their rows for the coordinator to keep: ask for a key, see what it is used for, give it up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from veilstat.architectures.homomorphic.rows.parameters import MOST_ANSWERS

from ..agent import Agent
from ..epoch_agent import EpochAgent
from ..key_consent import MOST_ATTEMPTS
from .journal import Journal
from .rows import Say

_SHARE = "`veilstat rows share`"


@dataclass(slots=True)
class KeyLog:
    """Writes down which keys were begun, made or not, and remembers why the last one was not."""

    agent: Agent
    journal: Journal
    failure: str = ""
    _running: bytes | None = None

    def note(self) -> None:
        """Called whenever the agent may have come further."""
        root = self.agent.root if self.agent.is_making_key else None
        if root == self._running:
            return
        if self._running is not None:
            self._note_end(self._running)
        if root is not None:
            self.failure = ""
            self.journal.write("key_begun", root=root.hex()[:16])
        self._running = root

    def _note_end(self, root: bytes) -> None:
        fault, kept = self.agent.fault, self.agent.kept
        if fault is not None:
            self.failure = fault.message
            self.journal.write("key_failed", root=root.hex()[:16], code=fault.code, culprits=fault.culprits)
        elif kept is not None:
            self.journal.write("key_made", root=root.hex()[:16], epoch=kept.record.identity.hex()[:16])


@dataclass(frozen=True, slots=True)
class EncryptedRows:
    """One owner's rows under the key of an epoch.

    Args:
        log: of the keys that the agent takes part in. speak: sends what the agent says.
    """

    agent: EpochAgent
    log: KeyLog
    speak: Callable[[], None]

    async def share(self, say: Say) -> None:
        """Ask for a key that all owners make together, and for these rows to be encrypted under it.

        Raises:
            SchemaError, RangeError: the rows do not fit the schema. VeilstatError: the word could not be written down.
        """
        agent = self.agent
        # Read whole, so that the person learns now what others are never told.
        _ = agent.table.rows(tuple(column.name for column in agent.definition.schema)).columns
        agent.rejoin()
        agent.ask_for_key()
        self.speak()
        say(
            f"asked for a key: once all owners have ({', '.join(agent.definition.owners)}) and are connected, they make it and encrypt their rows "
            f"under it, in place of the former ones; of {MOST_ATTEMPTS} attempts the first that succeeds ends this; `veilstat rows show` says how far it is"
        )

    async def show(self, say: Say) -> None:
        """Which key rows are encrypted under, what it was used for, and whether another one is asked for."""
        agent = self.agent
        if agent.kept is None:
            say(f"no rows are encrypted; ask for a key with {_SHARE}")
        else:
            record, spent = agent.kept.record, agent.epochs.use().answers
            rows = ", ".join(f"{name} {count:,}" for name, count in sorted(record.rows.items()))
            say(f"epoch {record.identity.hex()[:16]}: rows declared, rounded up: {rows}; {spent:,} of {MOST_ANSWERS:,} answers are spent")
            if agent.version != agent.mandate.table_version:
                say(f"the table has changed since; answers are over the rows as they were until the next key, for which {_SHARE} asks")
        if agent.is_making_key:
            say("a key is being made")
        elif agent.epochs.consent.is_withdrawn:
            say(f"this owner has withdrawn, and takes part again after {_SHARE}")
        elif agent.epochs.consent.number:
            say("a key is asked for; it is made once all owners have asked and are connected")
        if self.log.failure:
            say(f"the last key that was begun was not made: {self.log.failure}")

    async def withdraw(self, say: Say) -> None:
        """Give up the share of the key, and take part in no other until rows are shared again.

        Raises:
            SchemaError: there is none, and none was asked for. VeilstatError: that could not be written down.
        """
        self.agent.give_up_key()
        self.speak()
        say("the share of the key is gone: nothing more can be decrypted of anybody's rows until all owners make another key")
