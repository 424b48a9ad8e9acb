"""What messages of owners and the cloud are made of: one part for each owner, and polynomials."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from veilstat.protocol.codec import LENGTH_BYTES, decode, split_head, with_head
from veilstat.protocol.envelope import names_bytes
from veilstat.protocol.faults import violation

from .ring import CyclotomicRing, Residues


def encode_parts(parts: Mapping[str, bytes | memoryview]) -> bytes:
    """What several owners sent, of one length each."""
    names = sorted(parts)
    return with_head(names, (parts[name] for name in names))


def decode_parts(payload: memoryview, size: int, sender: str) -> dict[str, memoryview]:
    """The inverse of ``encode_parts`` for parts of ``size`` bytes; a violation by ``sender`` otherwise."""
    head, parts = split_head(payload)
    names = decode(head, list[str], sender)
    if len(parts) != len(names) * size or len(set(names)) != len(names):
        raise violation("malformed", f"{sender!r} sent parts of the wrong length", sender)
    return {name: parts[place * size : (place + 1) * size] for place, name in enumerate(names)}


def parts_size(names: Collection[str], size: int) -> int:
    """Bytes of ``encode_parts``, from the names alone."""
    return LENGTH_BYTES + names_bytes(names) + len(names) * size


def check_size(sender: str, payload: memoryview, size: int) -> None:
    """Refuse a message that is not as long as was agreed."""
    if len(payload) != size:
        raise violation("malformed", f"{sender!r} sent {len(payload):,} bytes, {size:,} were agreed", sender)


def read_elements(ring: CyclotomicRing, raw: memoryview, sender: str) -> Residues:
    """Polynomials; a violation by ``sender`` for numbers out of range."""
    try:
        return ring.from_bytes(raw)
    except ValueError:
        raise violation("malformed", f"{sender!r} sent numbers outside the ciphertexts' ring", sender) from None


def read_share(ring: CyclotomicRing, raw: memoryview, sender: str) -> Residues:
    """One polynomial; a violation by ``sender`` for anything else."""
    if len(raw) != ring.element_bytes:
        raise violation("malformed", f"{sender!r} sent a share of a key of the wrong length", sender)
    polynomial: Residues = read_elements(ring, raw, sender)[0]
    return polynomial


def read_ciphertexts(ring: CyclotomicRing, raw: memoryview, size: int, sender: str) -> Residues:
    """Ciphertexts of ``size`` bytes, of shape (ciphertexts, 2, primes, degree); a violation by ``sender`` otherwise."""
    if len(raw) != size:
        raise violation("malformed", f"{sender!r} sent ciphertexts of {len(raw):,} bytes, {size:,} were agreed", sender)
    return read_elements(ring, raw, sender).reshape(-1, 2, len(ring.transforms), ring.degree)
