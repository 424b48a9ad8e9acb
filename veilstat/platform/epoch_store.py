"""An epoch on disk: what a party keeps of encrypted rows, complete or absent, for as long as their key lives.

One file holds the public record, written beside its place, synced and renamed; its checksum is verified whenever it is
opened, and ciphertexts are read through the page cache. An owner keeps more: its share of the secret key, how many
answers it has helped to decrypt, which is on disk before the share of any of them exists, and whether it asks for a new
key. All are readable by the party's own account alone, and bound to the study: a record of another schema, roster or
architecture is refused.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from veilstat.architectures.homomorphic.rows.answers import Kept, Record
from veilstat.errors import PolicyDenied, SchemaError, VeilstatError

from .durable import disk_failures, part_of, replace_file, sync_directory
from .key_consent import KeyConsent

_MAGIC = b"veilstat-epoch01"
_DIGEST = 32
_HEAD = len(_MAGIC) + 2 * _DIGEST
_MAP, _BINARY = b"\xde", b"\xc6"
"""MessagePack: a map of 16 bits of entries, bytes of 32 bits of length."""


class Use(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What an owner remembers of its key: the version of the rows that it encrypted, and how many answers it has helped to decrypt."""

    table: str
    answers: int = 0


@dataclass(frozen=True, slots=True)
class EpochStore:
    """The epoch of one study at one party.

    Args:
        directory: an existing directory of the party's own. study: the digest of the study's definition and roster.

    ``consent`` says whether an owner takes part in another epoch.

    Raises:
        SchemaError: there is no such directory. VeilstatError: the owner's word in it is damaged.
    """

    directory: Path
    study: bytes
    consent: KeyConsent = field(init=False)

    def __post_init__(self) -> None:
        if not self.directory.is_dir():
            raise SchemaError(
                f"there is no directory {str(self.directory)!r} for encrypted rows; run: install -d -m 700 {self.directory}",
                code="no_directory",
            )
        with self._named():
            object.__setattr__(self, "consent", KeyConsent(self.directory))

    def at_start(self) -> Kept | None:
        """As ``kept``, for the party's own person: what is wrong names the directory, of which others are not told."""
        with self._named():
            return self.kept()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except VeilstatError as error:
            raise error.at(str(self.directory)) from None

    def keep(self, kept: Kept, table: str = "") -> Kept:
        """Write what a party keeps in place of the former epoch, whose key is given up, and return it as it lies on disk.

        ``table`` is the version of the owner's rows.
        """
        self.forget()
        checksum = hashlib.sha256()
        for part in _body(kept.record):
            checksum.update(part)
        _replace(self._record, _MAGIC, self.study, checksum.digest(), *_body(kept.record))
        if kept.secret is not None:
            _replace_checked(self._used, msgspec.msgpack.encode(Use(table)))
            _replace_checked(self._secret, kept.record.identity + kept.secret.tobytes())
        return Kept(msgspec.msgpack.decode(self._mapped()[_HEAD:], type=Record), kept.secret)

    def forget(self) -> None:
        """Give up the share of the key, then the record: nothing of the epoch can ever be decrypted again.

        Raises:
            VeilstatError: the disk refused.
        """
        with disk_failures("encrypted rows could not be removed"):
            for place in (self._secret, self._used, self._record):
                part_of(place).unlink(missing_ok=True)
                place.unlink(missing_ok=True)
            sync_directory(self.directory)

    def withdraw(self) -> None:
        """Forget, and take part in no epoch until the owner consents again, across restarts too."""
        self.consent.withdraw()
        self.forget()

    def _stored(self) -> Record | None:
        """The record; None where there is none."""
        if not self._record.exists():
            return None
        mapped = self._mapped()
        if mapped[: len(_MAGIC)] != _MAGIC or hashlib.sha256(mapped[_HEAD:]).digest() != mapped[_HEAD - _DIGEST : _HEAD]:
            raise self._damaged()
        if mapped[len(_MAGIC) : _HEAD - _DIGEST] != self.study:
            raise VeilstatError(
                "the encrypted rows are of another schema, roster, policy or architecture; remove the files of their directory and share the rows again",
                code="epoch_foreign",
            )
        return msgspec.msgpack.decode(mapped[_HEAD:], type=Record)

    def kept(self) -> Kept | None:
        """The record, with the share of its key where there is one; None where there is no record.

        Raises:
            VeilstatError: a file is damaged, or of another study.
        """
        record = self._stored()
        if record is None or not self._secret.exists():
            return None if record is None else Kept(record)
        raw = self._read(self._secret)
        if raw[:_DIGEST] != record.identity:
            raise self._damaged()
        self.use()
        return Kept(record, np.frombuffer(raw[_DIGEST:], dtype=np.int8))

    def use(self) -> Use:
        """What an owner that keeps a share of the key remembers of it; VeilstatError where that is damaged."""
        try:
            return msgspec.msgpack.decode(self._read(self._used), type=Use)
        except msgspec.MsgspecError:
            raise self._damaged() from None

    def spend(self, answers: int, most: int) -> None:
        """Count answers before they are decrypted.

        Raises:
            PolicyDenied: more than ``most`` under one key. VeilstatError: the count could not be written.
        """
        use = self.use()
        spent = answers + use.answers
        if spent > most:
            raise PolicyDenied(
                f"{spent:,} answers would be decrypted under one key, {most:,} are hidden by its smudging; make a new key by sharing the rows again",
                code="epoch_spent",
            )
        _replace_checked(self._used, msgspec.msgpack.encode(Use(use.table, spent)))

    @property
    def _record(self) -> Path:
        return self.directory / "epoch"

    @property
    def _secret(self) -> Path:
        return self.directory / "secret"

    @property
    def _used(self) -> Path:
        return self.directory / "used"

    def _mapped(self) -> memoryview:
        try:
            with self._record.open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError):
            raise self._damaged() from None

    def _read(self, place: Path) -> bytes:
        """A file that was written with its checksum."""
        try:
            raw = place.read_bytes()
        except OSError:
            raise self._damaged() from None
        if hashlib.sha256(raw[_DIGEST:]).digest() != raw[:_DIGEST]:
            raise self._damaged()
        return raw[_DIGEST:]

    def _damaged(self) -> VeilstatError:
        return VeilstatError(
            "the encrypted rows are damaged; check the disk, remove the files of their directory and share the rows again",
            code="epoch_damaged",
        )


def _replace(place: Path, *parts: bytes | memoryview) -> None:
    with disk_failures("encrypted rows could not be written"):
        replace_file(place, *parts)


def _replace_checked(place: Path, content: bytes) -> None:
    """Write a small file behind its checksum."""
    _replace(place, hashlib.sha256(content).digest(), content)


def _body(record: Record) -> Iterator[bytes | memoryview]:
    """The record in MessagePack, without a copy of its ciphertexts: they stand in its last field, which follows the others."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__ if name != "uploads"}
    yield msgspec.msgpack.encode(Record(**fields, uploads={}))[: -len(msgspec.msgpack.encode({}))]
    yield _MAP + len(record.uploads).to_bytes(2, "big")
    for name, ciphertexts in record.uploads.items():
        yield msgspec.msgpack.encode(name)
        yield _BINARY + len(ciphertexts).to_bytes(4, "big")
        yield ciphertexts
