"""Uploaded tables on a compute server's disk: one file per owner, read through the page cache, complete or absent.

A file holds the words of all planes, then the header, both covered by SHA-256. It is written beside its place, synced
and renamed, so that a crash leaves the former upload or the new one. A withdrawal is recorded before the file goes;
from then on only larger versions are taken. All files are readable by the server's account alone.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from veilstat.architectures.sharing.uploads import Header, UploadedRows, expand, planes
from veilstat.errors import PolicyDenied, ProtocolViolation, SchemaError, VeilstatError
from veilstat.schema.schema import Schema

from .durable import disk_failures, replace_file, sync_directory

_MAGIC = b"veilstat-upload1"
_DIGEST = 32
_TRAILER = len(_MAGIC) + 8 + 1 + _DIGEST
_CHUNK = 1 << 22
_NOT_WRITTEN = "an upload or its withdrawal could not be written"


class _Withdrawal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That an owner has withdrawn all its uploads up to a version."""

    owner: str
    version: int


@dataclass(slots=True)
class Incoming:
    """An upload on its way into a file, of which nothing counts before ``commit``; the disk's refusal is a VeilstatError."""

    header: Header
    server: int
    count: int
    place: Path
    temporary: Path
    _added: int = 0
    _data: Any = field(default_factory=hashlib.sha256, repr=False)

    def add(self, payload: bytes | memoryview) -> None:
        """The next plane; ProtocolViolation where its length does not fit."""
        self._added += 1
        if self._added > self.count:
            return
        words = expand(self.header, self.server, payload).data.cast("B")
        self._data.update(words)
        with disk_failures(_NOT_WRITTEN), self.temporary.open("ab") as file:
            file.write(words)

    def finish(self) -> None:
        """All planes are there, and stay through a crash; ProtocolViolation where they are too few or too many."""
        if self._added != self.count:
            raise ProtocolViolation(
                f"an upload has {self._added} planes instead of {self.count}", code="upload_size", culprits=(self.header.owner,)
            )
        plain = self.header.to_bytes()
        footer = plain + self._data.digest() + bytes((self.server,)) + len(plain).to_bytes(8, "little") + _MAGIC
        with disk_failures(_NOT_WRITTEN), self.temporary.open("ab") as file:
            file.write(footer + hashlib.sha256(footer).digest())
            file.flush()
            os.fsync(file.fileno())

    def commit(self) -> None:
        """Take the former upload's place."""
        with disk_failures(_NOT_WRITTEN):
            self.temporary.rename(self.place)
            sync_directory(self.place.parent)

    def discard(self) -> None:
        """Leave nothing behind, unless it was committed."""
        self.temporary.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class UploadStore:
    """The uploads of one study at one compute server.

    Args:
        directory: an existing directory of the server's own. server: 0, 1 or 2.

    Raises:
        SchemaError: there is no such directory.
    """

    directory: Path
    schema: Schema
    server: int
    _verified: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.directory.is_dir():
            raise SchemaError(
                f"there is no directory {str(self.directory)!r} for uploads; run: install -d -m 700 {self.directory}", code="no_directory"
            )
        for leftover in self.directory.glob("*.part"):
            leftover.unlink()

    def begin(self, sender: str, header: Header) -> Incoming:
        """Take an upload, plane by plane; once it is committed it replaces the sender's former one.

        Raises:
            ProtocolViolation: the header does not fit sender or schema; nothing has changed.
            PolicyDenied: the version is not larger than every one that was stored or withdrawn.
            VeilstatError: it could not be written; nothing has changed.
        """
        self._check(sender, header)
        place, temporary = self._place(header.owner), self._place(header.owner).with_suffix(".part")
        with disk_failures(_NOT_WRITTEN):
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return Incoming(header, self.server, len(planes(self.schema, header.complete)), place, temporary)

    def rows(self, owner: str, version: int) -> UploadedRows:
        """An upload, mapped into memory; its checksum is verified once while this store lives.

        Raises:
            SchemaError: there is no such upload. VeilstatError: the file was damaged.
        """
        header, digest = self._header(owner)
        if header.version <= self._withdrawn_version(owner):
            # A crash may have left the file.
            raise SchemaError(f"data owner {owner!r} has withdrawn its upload", code="upload_unknown")
        if header.version != version:
            raise SchemaError(f"data owner {owner!r} has uploaded version {header.version}, not {version}", code="upload_unknown")
        place = self._place(owner)
        if self._verified.get(owner) != header.identifier:
            if _data_digest(place, self._data_bytes(header)) != digest:
                raise _damaged(owner)
            self._verified[owner] = header.identifier
        shape = (len(planes(self.schema, header.complete)), 2, header.ring.limbs, header.rows)
        words = np.memmap(place, dtype=header.ring.dtype, mode="r", shape=shape)
        return UploadedRows(header, planes(self.schema, header.complete), words)

    def header(self, owner: str) -> Header | None:
        """What is known of an owner's upload; None where there is none."""
        if not self._place(owner).exists():
            return None
        header, _ = self._header(owner)
        return None if header.version <= self._withdrawn_version(owner) else header

    def largest_version(self, owner: str) -> int:
        """The largest version that was ever stored or withdrawn; 0 for none."""
        return max(self._withdrawn_version(owner), self._stored_version(owner))

    def withdraw(self, owner: str, version: int) -> None:
        """Remove an owner's upload, if there is one, and never take ``version`` or an earlier one again.

        Raises:
            SchemaError: the upload is a later one. VeilstatError: the disk refused.
        """
        if self._stored_version(owner) > version:
            raise SchemaError(f"data owner {owner!r} has replaced the upload that it withdraws", code="upload_unknown")
        with disk_failures(_NOT_WRITTEN):
            if self._withdrawn_version(owner) < version:
                replace_file(self._withdrawn(owner), msgspec.json.encode(_Withdrawal(owner, version)))
            self._place(owner).unlink(missing_ok=True)
            sync_directory(self.directory)
        self._verified.pop(owner, None)

    def _check(self, sender: str, header: Header) -> None:
        """Whether an upload may be taken; raises as ``begin``."""
        if sender != header.owner:
            raise ProtocolViolation(f"{sender!r} uploaded rows in the name of another", code="upload_owner", culprits=(sender,))
        known = tuple(column.name for column in self.schema if column.name in header.complete)
        if header.schema != self.schema.digest.hex() or header.complete != known:
            raise ProtocolViolation(
                f"{sender!r} uploaded rows of another schema; give every party the same one", code="upload_schema", culprits=(sender,)
            )
        if header.rows > self.schema.max_rows:
            raise ProtocolViolation(
                f"{sender!r} uploaded more rows than the schema's max_rows = {self.schema.max_rows:,}",
                code="upload_rows",
                culprits=(sender,),
            )
        if header.version <= self.largest_version(sender):
            raise PolicyDenied(
                f"{sender!r} uploaded version {header.version} of its rows, and this or a later one was here before; share them again",
                code="upload_version",
            )

    def _header(self, owner: str) -> tuple[Header, bytes]:
        """Header and checksum of an owner's stored upload."""
        try:
            with self._place(owner).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TRAILER))
                trailer = file.read()
                length = int.from_bytes(trailer[1:9], "little")
                file.seek(max(0, size - _TRAILER - _DIGEST - length))
                footer = file.read()
        except FileNotFoundError:
            raise SchemaError(f"data owner {owner!r} has no upload here; upload its rows first", code="upload_unknown") from None
        if hashlib.sha256(footer[:-_DIGEST]).digest() != footer[-_DIGEST:] or trailer[9 : 9 + len(_MAGIC)] != _MAGIC:
            raise _damaged(owner)
        header = Header.from_bytes(footer[:length])
        fits = header.owner == owner and header.schema == self.schema.digest.hex() and trailer[0] == self.server
        if not fits or size != self._data_bytes(header) + len(footer):
            raise VeilstatError(
                f"the stored upload of {owner!r} is of another owner, schema or server; remove its file and share the rows again",
                code="upload_foreign",
            )
        return header, footer[length : length + _DIGEST]

    def _stored_version(self, owner: str) -> int:
        return self._header(owner)[0].version if self._place(owner).exists() else 0

    def _withdrawn_version(self, owner: str) -> int:
        place = self._withdrawn(owner)
        if not place.exists():
            return 0
        try:
            return msgspec.json.decode(place.read_bytes(), type=_Withdrawal).version
        except msgspec.MsgspecError:
            raise _damaged(owner) from None

    def _data_bytes(self, header: Header) -> int:
        return 2 * header.plane_bytes * len(planes(self.schema, header.complete))

    def _place(self, owner: str) -> Path:
        return self.directory / (hashlib.sha256(owner.encode()).hexdigest() + ".shares")

    def _withdrawn(self, owner: str) -> Path:
        return self._place(owner).with_suffix(".withdrawn")


def _data_digest(place: Path, size: int) -> bytes:
    state = hashlib.sha256()
    with place.open("rb") as file:
        while size:
            chunk = file.read(min(size, _CHUNK))
            state.update(chunk)
            size = size - len(chunk) if chunk else 0
    return state.digest()


def _damaged(owner: str) -> VeilstatError:
    return VeilstatError(
        f"the stored upload of {owner!r} is damaged; check the disk, remove the file and upload again", code="upload_damaged"
    )
