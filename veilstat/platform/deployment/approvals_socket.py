"""How a person speaks to an agent: `veilstat approvals` over a Unix socket of its own, which the owner's account alone may use."""

from __future__ import annotations

import asyncio

import msgspec

from veilstat.errors import CapabilityError, VeilstatError
from veilstat.protocol.faults import ProtocolError
from veilstat.transports.stream import LARGEST_GREETING, Stream, dial

from .approvals import Approvals, Entry, Verdict
from .journal import Journal

_VERDICTS = {"grant": Verdict.GRANTED, "deny": Verdict.DENIED}
_LARGEST_ANSWER = 1 << 26
_ANSWERED_WITHIN = 30.0


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``list``, ``show``, ``grant`` or ``deny``, and the digest's beginning."""

    verb: str
    digest: str = ""


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Plans, or why there are none."""

    entries: list[Entry] = []
    error: str = ""


async def answer_person(stream: Stream, approvals: Approvals, journal: Journal) -> None:
    """Serve one command of one connection."""
    try:
        command = msgspec.json.decode(await stream.receive(LARGEST_GREETING), type=Command)
        stream.send(msgspec.json.encode(_answer(command, approvals, journal)))
        await stream.flush()
    except (OSError, EOFError, ProtocolError, msgspec.MsgspecError):
        journal.write("approval_unreadable")
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
        raise CapabilityError(
            f"no agent answers at {path!r}; start it with `veilstat owner`, and use its account", code="agent_unreachable"
        ) from None
    if answer.error:
        raise VeilstatError(answer.error, code="approval_refused")
    return answer.entries


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
                return Answer(error="there are: list, show, grant, deny")
    except VeilstatError as error:
        return Answer(error=error.message)
