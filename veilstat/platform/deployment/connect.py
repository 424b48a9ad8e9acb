"""``vs.connect``: the same study, answered by owners on their own machines."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from veilstat import __version__
from veilstat.errors import CapabilityError, SchemaError, VeilstatError
from veilstat.protocol.faults import ProtocolError
from veilstat.protocol.member import Member
from veilstat.statistics.results import Result
from veilstat.statistics.solve import solve

from ..analyst import Analyst
from ..definition import ANALYST, Definition
from ..driver import Driver, Progress, as_error
from ..identity_file import read_identity
from ..plan import Plan
from ..progress import Watching
from ..published import Published
from ..roster_file import ROSTER, read_roster
from ..study import Study
from .gateway_client import GatewayClient
from .packing import pack, unpack
from .patience import Patience

_WAIT, _WAIT_WATCHED = 20, 1
_POSTED_TOGETHER = 1 << 21


class Deployment:
    """Answers plans through a gateway; one query at a time.

    Args:
        timeout: seconds that the analyst waits for one answer of the coordinator.
    """

    def __init__(self, client: GatewayClient, analyst: Analyst, definition: Definition, timeout: float) -> None:
        self.client, self.analyst, self.definition, self.timeout = client, analyst, definition, timeout

    def status(self) -> dict[str, Any]:
        """Which parties are connected, the running query's round, who is missing, and bytes by party; where rows are encrypted, under
        which key, and which owners ask for another one.
        """
        with closing(self.client):
            return _reported(self.client)

    def run(self, plan: Plan, progress: Progress) -> Result:
        """The result of a plan, with its receipt.

        Raises:
            VeilstatError: whatever ended the query; nothing is opened after it.
        """
        with self._session() as path:
            exchange = _Exchange(self.client, f"{path}/frames", self.analyst, Patience(self.timeout, time.monotonic), progress)
            return Driver(plan, self.analyst, exchange.settle, solve, progress).answer(self._traffic, time.perf_counter)

    @contextmanager
    def _session(self) -> Iterator[str]:
        """The path of a session at the gateway, which is closed whatever happens; one that is lost closes itself."""
        with closing(self.client):
            path = f"/v1/sessions/{self.client.ask('POST', '/v1/sessions', {'session': str})['session']}"
            try:
                yield path
            finally:
                with suppress(VeilstatError):
                    self.client.request("DELETE", path)

    def _traffic(self) -> tuple[int, int]:
        spent = _reported(self.client)["bytes"]
        return max(spent.get(owner, 0) for owner in self.definition.owners), sum(spent.values())


class _Exchange:
    """The analyst's frames of one query."""

    def __init__(self, client: GatewayClient, path: str, analyst: Analyst, patience: Patience, progress: Progress) -> None:
        self.client, self.path, self.analyst, self.patience = client, path, analyst, patience
        self._last = 0
        self._watching = progress if isinstance(progress, Watching) else None

    def settle(self) -> None:
        """Send what the analyst says and fetch what it awaits, until it awaits nothing."""
        self._send()
        wait = _WAIT if self._watching is None else _WAIT_WATCHED
        while self.analyst.waiting:
            response, body = self.client.request("GET", f"{self.path}?after={self._last}&wait={wait}")
            try:
                frames = unpack(body)
                self._last = int(response.headers.get("veilstat-last", ""))
            except (ProtocolError, ValueError):
                raise self.client.not_one() from None
            for frame in frames:
                self.analyst.receive(frame)
            if not frames and self._watching is not None:
                self._watching.waits(_reported(self.client))
            if self.patience.is_over(self.analyst.awaits):
                self.analyst.expire()
            self._send()

    def _send(self) -> None:
        waiting: list[bytes] = []
        for event in self.analyst.events():
            waiting.append(event.frame)
            if sum(map(len, waiting)) >= _POSTED_TOGETHER:
                self.client.request("POST", self.path, pack(waiting))
                waiting = []
        if waiting:
            self.client.request("POST", self.path, pack(waiting))


def _reported(client: GatewayClient) -> dict[str, Any]:
    return client.ask("GET", "/v1/status", {"round": str | None, "missing": list[str], "bytes": dict[str, int]})


def connect(
    url: str, *, token: str, identity: str | Path, ca: str | Path | None = None, roster: str | Path | None = None, timeout: float = 600.0
) -> Study:
    """A study whose owners are on their own machines.

    Args:
        url: the gateway's address, such as ``https://study.example:8443``.
        token: opens the gateway; it authorises nothing at an owner.
        identity: the analyst's private file (0600), with whose key queries are signed.
        ca: the file with the authority of the gateway's certificate; the system's authorities by default.
        roster: the roster's file, which pins everybody's key; by default ``roster.toml`` beside the identity.
        timeout: seconds to wait for one answer.

    Raises:
        SchemaError: a file is missing or wrong, or the gateway serves another roster. CapabilityError: versions differ, or the
        gateway's certificate does not hold. QuorumLost: the gateway cannot be reached. PolicyDenied: the token is not valid.
    """
    if not isinstance(timeout, (int, float)) or not 0 < timeout <= 86_400:
        raise SchemaError("timeout must be a number of seconds, above 0 and at most 86400", code="bad_value")
    key = Path(identity)
    known = read_roster(key.parent / ROSTER if roster is None else Path(roster)).roster
    client = GatewayClient(url, token, None if ca is None else Path(ca))
    with closing(client):
        plain = client.ask("GET", "/v1/study", {})
    if plain.get("software") != __version__:
        raise CapabilityError(
            f"the gateway runs veilstat {plain.get('software')!s:.32}, this is veilstat {__version__}; install the same version on both",
            code="version",
        )
    if plain.get("roster") != known.digest.hex():
        raise SchemaError(
            "the gateway serves a study with another roster; compare the roster's file with the coordinator's", code="roster_differs"
        )
    definition = Published.from_json(str(plain.get("study")).encode()).definition()
    if definition.roles != dict(known.roles):
        raise SchemaError("the study that the gateway publishes has other parties than the roster", code="roster_differs")
    try:
        member = Member(read_identity(key, ANALYST, known.keys[ANALYST]), known)
        analyst = Analyst(member, definition, secrets.token_bytes)
    except ProtocolError as error:
        raise as_error(error.fault) from None
    return Study(definition, Deployment(client, analyst, definition, float(timeout)))
