"""The gateway: HTTPS for analysts. It moves their signed envelopes to and from the coordinator, and can sign nothing itself."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from veilstat import __version__
from veilstat.errors import CapabilityError, VeilstatError
from veilstat.protocol.faults import ProtocolError
from veilstat.transports.address import Address

from ..definition import ANALYST
from ..driver import as_error
from ..published import Published
from .gateway_api import FRAMES, LARGEST_BODY, LONGEST_WAIT, describe
from .limits import RateLimit
from .packing import pack, unpack
from .sessions import Session, Sessions, fetch
from .switchboard import Switchboard
from .tokens import holder

_BODY_WITHIN = 30.0
_STATUS = {
    "bad_token": 401,
    "no_session": 404,
    "session_replaced": 404,
    "too_slow": 408,
    "coordinator_busy": 409,
    "bad_after": 409,
    "too_large": 413,
    "too_often": 429,
}
_BAD_REQUEST = 400


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
        return Starlette(routes=routes, exception_handlers={VeilstatError: _refuse, ProtocolError: _refuse, HTTPException: _refuse_route})

    def _for_holders(self, serve: Callable[[Request, str], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Only those who show a token, and not too often."""

        async def answer(request: Request) -> Response:
            address = request.client.host if request.client is not None else ""
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            name = holder(self.tokens, token) if scheme.lower() == "bearer" else None
            allowed = self.failures.allows(address) if name is None else self.requests.allows(name)
            if not allowed:
                raise VeilstatError("too many requests; wait a minute", code="too_often")
            if name is None:
                raise VeilstatError("no valid bearer token was shown; ask the coordinator for one", code="bad_token")
            return await serve(request, name)

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


async def serve_gateway(gateway: Gateway, listen: Address, certificate: Path, is_over: asyncio.Event) -> None:
    """Serve it by HTTPS until ``is_over``; ``certificate`` is a file with key and certificate (PEM).

    Raises:
        CapabilityError: the address cannot be listened on.
    """
    settings = uvicorn.Config(
        gateway.application(),
        host=listen.host,
        port=listen.port,
        http="h11",
        ws="none",
        lifespan="off",
        ssl_certfile=certificate,
        ssl_keyfile=certificate,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=64,
        timeout_graceful_shutdown=2,
    )
    settings.load()
    assert settings.ssl is not None
    settings.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    server = _Server(settings)

    async def end() -> None:
        await is_over.wait()
        server.should_exit = True

    ending = asyncio.create_task(end())
    try:
        await server.serve()
    except SystemExit:
        raise CapabilityError(f"the gateway cannot listen on {listen}; end what listens there", code="cannot_listen") from None
    finally:
        ending.cancel()
    is_over.set()


class _Server(uvicorn.Server):
    """Signals end the whole process, so they are taken elsewhere."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _body(request: Request) -> bytes:
    """The body, refused as soon as it is known to be too large, or too slow."""
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdecimal() and int(announced[:20]) > LARGEST_BODY:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_WITHIN):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_BODY:
                    raise _too_large()
    except (TimeoutError, ClientDisconnect):
        raise VeilstatError(f"the body did not arrive within {_BODY_WITHIN:g} seconds", code="too_slow") from None
    return bytes(body)


def _too_large() -> VeilstatError:
    return VeilstatError(f"a body has at most {LARGEST_BODY:,} bytes", code="too_large")


def _number(request: Request, name: str, most: int) -> int:
    text = request.query_params.get(name, "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= most):
        raise VeilstatError(f"{name} is a whole number from 0 to {most}", code="bad_number")
    return int(text)


async def _refuse(request: Request, error: Exception) -> Response:
    plain = as_error(error.fault) if isinstance(error, ProtocolError) else error
    assert isinstance(plain, VeilstatError)
    status = _STATUS.get(plain.code, _BAD_REQUEST)
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse({"code": plain.code, "message": plain.message}, status, headers)


async def _refuse_route(request: Request, error: Exception) -> Response:
    """No such path, or no such method there."""
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == 404 else "bad_request"
    return JSONResponse({"code": code, "message": error.detail}, error.status_code, error.headers)
