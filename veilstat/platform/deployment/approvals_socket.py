"""How a person speaks to an agent: `veilstat approvals` and `veilstat rows` over a Unix socket, which the owner's account alone may use."""

from __future__ import annotations

import asyncio

import msgspec

from veilstat.errors import CapabilityError, VeilstatError
from veilstat.protocol.faults import Fault, ProtocolError
from veilstat.transports.stream import LARGEST_GREETING, Stream, dial

from ..driver import as_error
from .approvals import Approvals, Entry, Verdict
from .journal import Journal
from .rows import SHARE, SHOW, WITHDRAW, RowsErrands, Say

_VERDICTS = {"grant": Verdict.GRANTED, "deny": Verdict.DENIED}
_ROWS = {f"rows {verb}": verb for verb in (SHARE, SHOW, WITHDRAW)}
_LARGEST_ANSWER = 1 << 26
_SPOKEN_WITHIN, _TAKEN_WITHIN = 10.0, 10.0
_ANSWERED_WITHIN = 30.0
_SILENT_FOR = 600.0
"""Seconds without a word after which a person is told that the agent does not answer: longer than it waits for anybody."""


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``list``, ``show``, ``grant`` or ``deny`` and the digest's beginning, or ``rows`` and what to do with them."""

    verb: str
    digest: str = ""


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Plans, or why there are none."""

    entries: list[Entry] = []
    error: str = ""


class Word(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something about rows; the last one says by ``fault`` (kind, code, message) what went wrong, if anything did."""

    text: str = ""
    is_last: bool = False
    fault: tuple[str, str, str] | None = None


async def answer_person(stream: Stream, approvals: Approvals, errands: RowsErrands, journal: Journal) -> None:
    """Serve one command of one connection; a person who has left, or takes no answer, keeps nobody busy."""
    try:
        command = await _command(stream)
        if command is None:
            journal.write("approval_unreadable")
            return
        answer = await _carry_out(_ROWS[command.verb], stream, errands) if command.verb in _ROWS else _answer(command, approvals, journal)
        stream.send(msgspec.json.encode(answer))
        try:
            async with asyncio.timeout(_TAKEN_WITHIN):
                await stream.flush()
        except OSError:
            stream.drop()
    finally:
        stream.close()


def ask_agent(path: str, command: Command) -> list[Entry]:
    """The answer of the agent whose approvals socket is at ``path``.

    Raises:
        CapabilityError: no agent answers there. VeilstatError: it refused.
    """

    async def ask() -> Answer:
        stream = await dial(path)
        try:
            stream.send(msgspec.json.encode(command))
            return msgspec.json.decode(await stream.receive(_LARGEST_ANSWER), type=Answer)
        finally:
            stream.close()

    try:
        answer = asyncio.run(asyncio.wait_for(ask(), _ANSWERED_WITHIN))
    except (OSError, EOFError, ProtocolError, msgspec.MsgspecError):
        raise _unreachable(path) from None
    if answer.error:
        raise VeilstatError(answer.error, code="approval_refused")
    return answer.entries


def send_errand(path: str, verb: str, say: Say) -> None:
    """Have the agent whose approvals socket is at ``path`` do something with its owner's rows, and hear how it goes.

    Raises:
        CapabilityError: no agent answers there, or no longer. VeilstatError: what went wrong.
    """

    async def follow() -> Word:
        stream = await dial(path)
        try:
            stream.send(msgspec.json.encode(Command(f"rows {verb}")))
            while True:
                async with asyncio.timeout(_SILENT_FOR):
                    word = msgspec.json.decode(await stream.receive(_LARGEST_ANSWER), type=Word)
                if word.is_last:
                    return word
                say(word.text)
        finally:
            stream.close()

    try:
        last = asyncio.run(follow())
    except (OSError, EOFError, ProtocolError, msgspec.MsgspecError):
        raise _unreachable(path) from None
    if last.fault is not None:
        raise as_error(Fault(*last.fault))


async def _command(stream: Stream) -> Command | None:
    """What a person wants; None where nobody says anything in time that can be read."""
    try:
        async with asyncio.timeout(_SPOKEN_WITHIN):
            return msgspec.json.decode(await stream.receive(LARGEST_GREETING), type=Command)
    except (OSError, EOFError, ProtocolError, msgspec.MsgspecError):
        return None


async def _carry_out(verb: str, stream: Stream, errands: RowsErrands) -> Word:
    def say(text: str) -> None:
        stream.send(msgspec.json.encode(Word(text)))

    try:
        await errands.carry_out(verb, say)
    except VeilstatError as error:
        return Word(is_last=True, fault=(type(error).__name__, error.code, error.message))
    return Word(is_last=True)


def _unreachable(path: str) -> CapabilityError:
    return CapabilityError(f"no agent answers at {path!r}; start it with `veilstat owner`, and use its account", code="agent_unreachable")


def _answer(command: Command, approvals: Approvals, journal: Journal) -> Answer:
    try:
        match command.verb:
            case "list":
                return Answer(list(approvals.entries()))
            case "show":
                return Answer([approvals.find(command.digest)])
            case "grant" | "deny":
                entry = approvals.decide(command.digest, _VERDICTS[command.verb])
                journal.write("person_decided", verdict=entry.verdict, plan=entry.digest)
                return Answer([entry])
            case _:
                return Answer(error=f"there are: list, show, grant, deny, {', '.join(_ROWS)}")
    except VeilstatError as error:
        return Answer(error=error.message)
