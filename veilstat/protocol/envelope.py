"""The envelope: who says what to whom, in which step and round, signed.

A frame is ``length of header (4 bytes) | header | signature (64 bytes) | payload``; between two compute servers a code
stands in the signature's place (``member.py``). The header is a MessagePack
array with fixed-width fields, so that its size follows from the names alone; it holds the payload's SHA-256, so
that the signature covers the payload without copying it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec

from .context import DIGEST_BYTES
from .faults import violation
from .identity import SIGNATURE_BYTES

VERSION = 1
BLOCK_BYTES = 1 << 20
LARGEST_FRAME = BLOCK_BYTES + (1 << 12)
NO_STEP = bytes(DIGEST_BYTES)
_DOMAIN = b"veilstat/envelope/1\0"
_LENGTH_BYTES = 4


class _Header(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    version: int
    root: bytes
    step: bytes
    round: str
    sender: str
    recipient: str
    sequence: bytes
    blocks: bytes
    payload: bytes


class Author(Protocol):
    """Who sends: an identity, which signs, or a member of a roster."""

    @property
    def name(self) -> str: ...

    def authenticate(self, recipient: str, message: bytes) -> bytes: ...


class Reader(Protocol):
    """Who knows senders: a roster, which knows signatures, or a member of it."""

    def accepts(self, sender: str, recipient: str, message: bytes, signature: bytes) -> bool: ...


_decoder = msgspec.msgpack.Decoder(_Header)


@dataclass(frozen=True, slots=True)
class Envelope:
    """One block of a message: block ``sequence`` of ``blocks``."""

    root: bytes
    step: bytes
    round: str
    sender: str
    recipient: str
    sequence: int
    blocks: int
    payload: memoryview
    _payload_digest: bytes
    _signed: bytes
    _signature: bytes
    frame: bytes

    @staticmethod
    def decode(frame: bytes) -> Envelope:
        """Parse a frame, unverified; a violation without culprit for anything malformed, since nobody signed it."""
        if not _LENGTH_BYTES + SIGNATURE_BYTES < len(frame) <= LARGEST_FRAME:
            raise violation("malformed", f"a message of {len(frame):,} bytes is too short or above the limit of {LARGEST_FRAME:,}")
        end = _LENGTH_BYTES + int.from_bytes(frame[:_LENGTH_BYTES], "little")
        view = memoryview(frame)
        try:
            header = _decoder.decode(view[_LENGTH_BYTES:end])
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
            raise violation("malformed", "a message could not be read") from None
        if header.version != VERSION:
            raise violation(
                "version", f"a message has protocol version {header.version}, this software speaks {VERSION}; install the same version"
            )
        widths = (header.root, header.step, header.payload), (header.sequence, header.blocks)
        if any(len(part) != DIGEST_BYTES for part in widths[0]) or any(len(part) != 4 for part in widths[1]):
            raise violation("malformed", "a message has a field of the wrong length")
        sequence, blocks = (int.from_bytes(part, "little") for part in widths[1])
        payload = view[end + SIGNATURE_BYTES :]
        if len(frame) < end + SIGNATURE_BYTES or not 0 <= sequence < blocks:
            raise violation("malformed", "a message is cut short or counts its blocks wrongly")
        return Envelope(
            header.root, header.step, header.round, header.sender, header.recipient, sequence, blocks, payload,
            header.payload, bytes(view[_LENGTH_BYTES:end]), bytes(view[end : end + SIGNATURE_BYTES]), frame,
        )  # fmt: skip

    def verify(self, reader: Reader) -> None:
        """Refuse an envelope that its sender did not authenticate, or whose payload is not the one it sent.

        The violation names nobody: what nobody signed may name anybody. Whoever knows who brought it can say more.
        """
        if hashlib.sha256(self.payload).digest() != self._payload_digest:
            raise violation("altered", "a message was altered on the way")
        if not reader.accepts(self.sender, self.recipient, _DOMAIN + self._signed, self._signature):
            raise violation("bad_signature", "a message is not signed by the party that it names as its sender")

    @property
    def digest(self) -> bytes:
        """What tells a resent block from a different one."""
        return hashlib.sha256(self._signed).digest()


def seal(author: Author, root: bytes, step: bytes, round_name: str, recipient: str, payload: bytes | memoryview) -> Iterator[bytes]:
    """Authenticated frames that carry a payload in blocks of at most 1 MiB; an empty payload travels as one empty block."""
    view = memoryview(payload).cast("B")
    blocks = max(1, -(-len(view) // BLOCK_BYTES))
    for sequence in range(blocks):
        block = view[sequence * BLOCK_BYTES : (sequence + 1) * BLOCK_BYTES]
        header = msgspec.msgpack.encode(
            _Header(
                VERSION, root, step, round_name, author.name, recipient,
                sequence.to_bytes(4, "little"), blocks.to_bytes(4, "little"), hashlib.sha256(block).digest(),
            )
        )  # fmt: skip
        yield b"".join((len(header).to_bytes(_LENGTH_BYTES, "little"), header, author.authenticate(recipient, _DOMAIN + header), block))


def frame_bytes(round_name: str, sender: str, recipient: str, payload: int) -> int:
    """Bytes on the wire of a payload of ``payload`` bytes, all frames together, from the format alone."""
    names = sum(text_bytes(len(name.encode())) for name in (round_name, sender, recipient))
    header = 1 + 1 + 3 * (2 + DIGEST_BYTES) + names + 2 * (2 + 4)
    blocks = max(1, -(-payload // BLOCK_BYTES))
    return blocks * (_LENGTH_BYTES + header + SIGNATURE_BYTES) + payload


def text_bytes(length: int) -> int:
    """Bytes of a MessagePack string of ``length`` bytes."""
    return length + (1 if length < 32 else 2 if length < 256 else 3 if length < 65536 else 5)


def binary_bytes(length: int) -> int:
    """Bytes of a MessagePack byte string of ``length`` bytes."""
    return length + (2 if length < 256 else 3 if length < 65536 else 5)


def array_bytes(count: int) -> int:
    """Bytes of the head of a MessagePack array or map of ``count`` entries."""
    return 1 if count < 16 else 3 if count < 65536 else 5


def names_bytes(names: Collection[str]) -> int:
    """Bytes of a MessagePack array of parties' names."""
    return array_bytes(len(names)) + sum(text_bytes(len(name.encode())) for name in names)
