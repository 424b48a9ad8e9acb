"""What this machine has: versions, cryptography and its speed, and the optional parts, each with what to do."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time
from dataclasses import dataclass

import numpy as np

from veilstat.arithmetic.keystream import Keystream, fastest_mode, galois_mode
from veilstat.arithmetic.rings import Ring

_NEEDED = ("numpy", "pandas", "scipy", "cryptography", "msgspec", "python-flint", "rich", "typer", "tomli-w")
_EXTRAS = {
    "ray": "deploy",
    "starlette": "deploy",
    "uvicorn": "deploy",
    "duckdb": "deploy",
    "pyarrow": "deploy",
    "tenseal": "homomorphic",
    "dp-accounting": "dp",
    "matplotlib": "plot",
}
_OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``advice`` is empty where all is well, ``essential`` where veilstat needs it."""

    what: str
    found: str
    advice: str = ""
    essential: bool = True

    @property
    def is_well(self) -> bool:
        return not self.advice


def examine() -> list[Finding]:
    """Look at everything; takes less than a second."""
    python = ".".join(map(str, sys.version_info[:3]))
    oldest = ".".join(map(str, _OLDEST_PYTHON))
    findings = [Finding("Python", python, "" if sys.version_info >= _OLDEST_PYTHON else f"install Python {oldest} or later")]
    findings += [_package(name, f"pip install {name}", essential=True) for name in _NEEDED]
    findings += [_package(name, f"for the extra: pip install 'veilstat[{extra}]'", essential=False) for name, extra in _EXTRAS.items()]
    return [*findings, _openssl(), _keystream(), _processors()]


def _package(name: str, advice: str, *, essential: bool) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name), essential=essential)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", advice, essential)


def _openssl() -> Finding:
    from cryptography.hazmat.backends.openssl.backend import backend

    return Finding("OpenSSL", backend.openssl_version_text())


def _keystream() -> Finding:
    mode = fastest_mode()
    vector = np.zeros(1 << 21, dtype="<u4")
    stream = Keystream(Ring(32), mode)
    stream.add(vector, bytes(28))
    start = time.perf_counter()
    stream.add(vector, bytes(28))
    speed = vector.nbytes / (time.perf_counter() - start) / 1e9
    name = "AES-128-GCM over zeros" if mode is galois_mode else "AES-128-CTR"
    advice = "" if speed > 0.5 else "masks will be slow: the processor's AES instructions are not used"
    return Finding("keystream", f"{name}, {speed:.1f} GB/s added to a vector", advice, essential=False)


def _processors() -> Finding:
    threads = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or "as many as the library takes"
    return Finding("processors", f"{os.cpu_count()}, linear algebra threads: {threads}")
