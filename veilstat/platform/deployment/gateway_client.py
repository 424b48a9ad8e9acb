"""The analyst's HTTPS connection to the gateway: requests, what a refusal means, and nothing else."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from veilstat.errors import CapabilityError, PolicyDenied, QuorumLost, SchemaError, VeilstatError

from .gateway_api import FRAMES

_SECONDS, _KEPT = 40.0, 2.0
_LARGEST_ANSWER = 1 << 26
_KINDS: Mapping[str, type[VeilstatError]] = {
    "coordinator_busy": QuorumLost,
    "bad_token": PolicyDenied,
    "too_often": QuorumLost,
    "no_session": QuorumLost,
    "session_replaced": QuorumLost,
}


class GatewayClient:
    """One connection at a time, made again when it was closed in between.

    Args:
        url: https://host:port. token: the bearer token. authority: the file with the authority that signed the gateway's
            certificate; the system's authorities where it is None. clock: seconds that only grow.

    Raises:
        SchemaError: the URL is none, or the file cannot be read.
    """

    def __init__(self, url: str, token: str, authority: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or parts.hostname is None or parts.path not in ("", "/"):
            raise SchemaError(f"{url!r} is no gateway's address, such as https://host:8443", code="bad_url")
        try:
            context = ssl.create_default_context(cafile=None if authority is None else str(authority))
        except OSError as error:
            raise SchemaError(f"the authority's file {str(authority)!r} cannot be read: {error.strerror}", code="no_file") from None
        self.where, self._clock, self._used = url, clock, 0.0
        self._headers = {"authorization": f"Bearer {token}"}
        self._connection = HTTPSConnection(parts.hostname, parts.port or 443, timeout=_SECONDS, context=context)

    def ask(self, method: str, path: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A plain answer with at least these fields, of these types; errors as ``request``."""
        _, answer = self.request(method, path)
        try:
            plain = msgspec.json.decode(answer, type=dict[str, Any])
            for name, its in fields.items():
                msgspec.convert(plain.get(name), its)
        except msgspec.MsgspecError:
            raise self.not_one() from None
        return plain

    def request(self, method: str, path: str, body: bytes = b"") -> tuple[HTTPResponse, bytes]:
        """One request, never repeated.

        Raises:
            QuorumLost: the gateway cannot be reached, or ended the session. CapabilityError: it is not who the authority
            says. VeilstatError: it refused.
        """
        headers = self._headers | ({"content-type": FRAMES} if body else {})
        if self._clock() - self._used > _KEPT:
            # The gateway hangs up on who is silent for five seconds, as an analyst is that computes.
            self._connection.close()
        try:
            self._connection.request(method, path, body or None, headers)
            response = self._connection.getresponse()
            answer = response.read(_LARGEST_ANSWER)
            self._used = self._clock()
        except ssl.SSLCertVerificationError as error:
            self._connection.close()
            raise CapabilityError(
                f"the certificate of the gateway {self.where} does not hold: {error.verify_message}; give the study's authority with ca=",
                code="bad_certificate",
            ) from None
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise QuorumLost(
                f"the gateway {self.where} cannot be reached ({type(error).__name__}); a query that ran has ended, start it again",
                code="gateway_lost",
            ) from None
        if response.status >= 400:
            raise _refusal(response.status, answer)
        return response, answer

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def not_one(self) -> CapabilityError:
        """What answers does not answer as a gateway does."""
        return CapabilityError(f"what answers at {self.where} is no veilstat gateway", code="no_gateway")


def _refusal(status: int, answer: bytes) -> VeilstatError:
    try:
        plain = json.loads(answer)
        code, message = str(plain["code"]), str(plain["message"])
    except (ValueError, KeyError, TypeError):
        return VeilstatError(f"the gateway answered with status {status}", code="gateway_refused")
    return _KINDS.get(code, VeilstatError)(f"the gateway refused: {message[:500]}", code=code[:64])
