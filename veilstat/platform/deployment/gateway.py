"""The gateway: HTTPS for analysts. It moves their signed envelopes to and from the coordinator, and can sign nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from veilstat import __version__
from veilstat.errors import VeilstatError
from veilstat.protocol.faults import ProtocolError

from ..definition import ANALYST
from ..published import Published
from .gateway_api import FRAMES, LARGEST_BODY, LONGEST_WAIT, describe
from .limits import RateLimit
from .packing import pack, unpack
from .sessions import Session, Sessions, fetch
from .switchboard import Switchboard
from .tokens import holder

BODY_WITHIN = 30.0
_STATUS = {"coordinator_busy": 409, "no_session": 404, "session_replaced": 404, "bad_after": 409, "malformed": 400}


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the gateway serves, and to whom.

    Args:
        tokens: SHA-256 of tokens by holder. requests: how often each holder may ask. failures: how often each address may fail to show a token.
    """

    published: Published
    roster: bytes
    board: Switchboard
    sessions: Sessions
    tokens: Mapping[str, str]
    requests: RateLimit
    failures: RateLimit

    def application(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/openapi.json", self._describe),
            Route("/v1/study", self._for_holders(self._study)),
            Route("/v1/status", self._for_holders(self._report)),
            Route("/v1/sessions", self._for_holders(self._open), methods=["POST"]),
            Route("/v1/sessions/{session}", self._for_holders(self._close), methods=["DELETE"]),
            # One route, so that a refusal of other methods names both.
            Route("/v1/sessions/{session}/frames", self._for_holders(self._exchange), methods=["GET", "POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _refuse})

    def _for_holders(self, serve: Callable[[Request, str], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Only those who show a token, and not too often."""

        async def answer(request: Request) -> Response:
            address = request.client.host if request.client is not None else ""
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            name = holder(self.tokens, token) if scheme.lower() == "bearer" else None
            if name is None:
                allowed = self.failures.allows(address)
                raise _error(401, "bad_token", "no valid bearer token was shown; ask the coordinator for one") if allowed else _too_often()
            if not self.requests.allows(name):
                raise _too_often()
            try:
                return await serve(request, name)
            except VeilstatError as error:
                raise _error(_STATUS.get(error.code, 400), error.code, error.message) from None
            except ProtocolError as error:
                raise _error(_STATUS.get(error.fault.code, 400), error.fault.code, error.fault.message) from None

        return answer

    async def _describe(self, request: Request) -> Response:
        return JSONResponse(describe(__version__))

    async def _study(self, request: Request, name: str) -> Response:
        study = self.published.to_json().decode()
        return JSONResponse({"software": __version__, "roster": self.roster.hex(), "study": study})

    async def _report(self, request: Request, name: str) -> Response:
        party = self.board.party
        session = party.session
        return JSONResponse(
            {
                "connected": sorted(set(self.board.ports) - {ANALYST}),
                "query": None if party.root is None else party.root.hex()[:16],
                "round": None if session is None else session.waiting_for,
                "missing": sorted(party.awaited),
                "bytes": dict(self.board.bytes),
                "epoch": None if party.kept is None else party.kept.record.identity.hex()[:16],
                "asking": sorted(party.wishes),
            }
        )

    async def _open(self, request: Request, name: str) -> Response:
        return JSONResponse({"session": self.sessions.open(name).identifier}, 201)

    async def _close(self, request: Request, name: str) -> Response:
        self.sessions.close(self._session(request, name))
        return JSONResponse({"bytes": dict(self.board.bytes)})

    async def _exchange(self, request: Request, name: str) -> Response:
        return await (self._take if request.method == "POST" else self._give)(request, name)

    async def _take(self, request: Request, name: str) -> Response:
        session = self._session(request, name)
        for frame in unpack(await _body(request)):
            self.board.take(ANALYST, frame)
        session.used = self.sessions.clock()
        return Response(status_code=202)

    async def _give(self, request: Request, name: str) -> Response:
        session = self._session(request, name)
        after = _number(request, "after", 1 << 62)
        last, frames = await fetch(session, after, min(_number(request, "wait", 3600), LONGEST_WAIT))
        return Response(pack(frames), media_type=FRAMES, headers={"veilstat-last": str(last)})

    def _session(self, request: Request, name: str) -> Session:
        return self.sessions.find(request.path_params["session"], name)


async def _body(request: Request) -> bytes:
    """The body, refused as soon as it is known to be too large, or too slow."""
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdecimal() and int(announced[:20]) > LARGEST_BODY:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_BODY:
                    raise _too_large()
    except (TimeoutError, ClientDisconnect):
        raise _error(408, "too_slow", f"the body did not arrive within {BODY_WITHIN:g} seconds") from None
    return bytes(body)


def _number(request: Request, name: str, most: int) -> int:
    text = request.query_params.get(name, "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= most):
        raise _error(400, "bad_number", f"{name} is a whole number from 0 to {most}")
    return int(text)


def _error(status: int, code: str, message: str) -> HTTPException:
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return HTTPException(status, {"code": code, "message": message}, headers)  # type: ignore[arg-type]


def _too_often() -> HTTPException:
    return _error(429, "too_often", "too many requests; wait a minute")


def _too_large() -> HTTPException:
    return _error(413, "too_large", f"a body has at most {LARGEST_BODY:,} bytes")


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    plain: Any = error.detail
    if not isinstance(plain, dict):
        plain = {"code": "not_found" if error.status_code == 404 else "bad_request", "message": str(plain)}
    return JSONResponse(plain, error.status_code, dict(error.headers or {}))
