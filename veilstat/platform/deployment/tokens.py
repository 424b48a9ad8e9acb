"""Bearer tokens of the gateway: who may use it, by name, and the SHA-256 of each token, which has 256 random bits.

A token opens the gateway and authorises nothing at an owner: owners verify the analyst's signature.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from pathlib import Path

import tomli_w

from veilstat.errors import SchemaError
from veilstat.schema.schema import read_toml

from ..durable import replace_file
from .private import check_file

_BYTES = 32


def issue_token(path: Path, name: str, random: Callable[[int], bytes]) -> str:
    """Add a token to a file (0600), which is made where it does not exist, and give the token, which is kept nowhere.

    Raises:
        SchemaError: the name has a token already.
    """
    known = dict(read_tokens(path)) if path.exists() else {}
    if name in known:
        raise SchemaError(f"{name!r} has a token already; remove its line from {path.name} to withdraw it", code="token_exists")
    token = base64.urlsafe_b64encode(random(_BYTES)).decode().rstrip("=")
    replace_file(path, tomli_w.dumps({"sha256": {**known, name: _hash(token)}}).encode())
    return token


def read_tokens(path: Path) -> Mapping[str, str]:
    """Hashes by name.

    Raises:
        SchemaError: the file cannot be read. CapabilityError: others can read or change it.
    """
    plain = read_toml(path)
    check_file(path, "the tokens' file")
    hashes = plain.get("sha256")
    if not isinstance(hashes, dict) or not all(isinstance(entry, str) and len(entry) == 64 for entry in hashes.values()):
        raise SchemaError(f"{path.name}: [sha256] has the SHA-256 of a token for each name; `veilstat token` adds one", code="bad_tokens")
    return hashes


def holder(tokens: Mapping[str, str], token: str) -> str | None:
    """Whose token it is; every hash is compared, in constant time."""
    given = _hash(token)
    found = [name for name, known in tokens.items() if hmac.compare_digest(known, given)]
    return found[0] if found else None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
