"""An epoch on disk: what a party keeps of encrypted rows, complete or absent, for as long as their key lives.

One file holds the public record, written beside its place, synced and renamed; its checksum is verified whenever it is
opened, and ciphertexts are read through the page cache. An owner keeps two more: its share of the secret key, and how many
answers it has helped to decrypt, which is on disk before the share of any of them exists. All are readable by the
party's own account alone, and bound to the study: a record of another schema, roster or architecture is refused.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from veilstat.architectures.homomorphic.rows.answers import Kept, Record
from veilstat.errors import PolicyDenied, SchemaError, VeilstatError

from .durable import sync_directory

_MAGIC = b"veilstat-epoch01"
_DIGEST = 32
_HEAD = len(_MAGIC) + 2 * _DIGEST
_COUNT_BYTES = 8


@dataclass(frozen=True, slots=True)
class EpochStore:
    """The epoch of one study at one party.

    Args:
        directory: an existing directory of the party's own. study: the digest of the study's definition and roster.

    Raises:
        SchemaError: there is no such directory.
    """

    directory: Path
    study: bytes

    def __post_init__(self) -> None:
        if not self.directory.is_dir():
            raise SchemaError(
                f"there is no directory {str(self.directory)!r} for encrypted rows; run: install -d -m 700 {self.directory}",
                code="no_directory",
            )

    def keep(self, record: Record) -> Record:
        """Write a record in place of the former one, whose key is given up, and return it as it lies on disk."""
        self.forget()
        body = msgspec.msgpack.encode(record)
        self._replace(self._record, (_MAGIC, self.study, hashlib.sha256(body).digest(), body))
        return msgspec.msgpack.decode(self._mapped()[_HEAD:], type=Record)

    def keep_secret(self, kept: Kept) -> None:
        """Write an owner's share of the key; nothing has been decrypted with it."""
        assert kept.secret is not None
        self._replace(self._spent, (bytes(_COUNT_BYTES),))
        self._replace(self._secret, (kept.record.identity, kept.secret.tobytes()))

    def forget(self) -> None:
        """Give up the share of the key, then the record: nothing of the epoch can ever be decrypted again."""
        for place in (self._secret, self._spent, self._record):
            place.unlink(missing_ok=True)
        sync_directory(self.directory)

    def withdraw(self) -> None:
        """Forget, and take part in no epoch until ``rejoin``, across restarts too."""
        self._replace(self._withdrawn, (b"",))
        self.forget()

    def rejoin(self) -> None:
        """Take part again."""
        self._withdrawn.unlink(missing_ok=True)
        sync_directory(self.directory)

    @property
    def is_withdrawn(self) -> bool:
        """Whether the owner takes part in no epoch."""
        return self._withdrawn.exists()

    def record(self) -> Record | None:
        """The record; None where there is none.

        Raises:
            VeilstatError: the file is damaged, or of another study.
        """
        if not self._record.exists():
            return None
        mapped = self._mapped()
        if mapped[: len(_MAGIC)] != _MAGIC or hashlib.sha256(mapped[_HEAD:]).digest() != mapped[_HEAD - _DIGEST : _HEAD]:
            raise _damaged()
        if mapped[len(_MAGIC) : _HEAD - _DIGEST] != self.study:
            raise VeilstatError("the encrypted rows on disk are of another study; remove them and upload again", code="epoch_foreign")
        return msgspec.msgpack.decode(mapped[_HEAD:], type=Record)

    def kept(self) -> Kept | None:
        """The record, with the share of its key where there is one; None where there is no record.

        Raises:
            VeilstatError: a file is damaged, or of another study.
        """
        record = self.record()
        if record is None or not self._secret.exists():
            return None if record is None else Kept(record)
        raw = self._secret.read_bytes()
        if raw[:_DIGEST] != record.identity:
            raise _damaged()
        return Kept(record, np.frombuffer(raw[_DIGEST:], dtype=np.int8))

    def spend(self, answers: int, most: int) -> None:
        """Count answers before they are decrypted.

        Raises:
            PolicyDenied: more than ``most`` under one key. VeilstatError: the count could not be written.
        """
        spent = answers + int.from_bytes(self._spent.read_bytes(), "little")
        if spent > most:
            raise PolicyDenied(
                f"{spent:,} answers would be decrypted under one key, {most:,} are hidden by its smudging; make a new key by uploading again",
                code="epoch_spent",
            )
        self._replace(self._spent, (spent.to_bytes(_COUNT_BYTES, "little"),))

    @property
    def _record(self) -> Path:
        return self.directory / "epoch"

    @property
    def _secret(self) -> Path:
        return self.directory / "secret"

    @property
    def _spent(self) -> Path:
        return self.directory / "spent"

    def _mapped(self) -> memoryview:
        try:
            with self._record.open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError):
            raise _damaged() from None

    @property
    def _withdrawn(self) -> Path:
        return self.directory / "withdrawn"

    def _replace(self, place: Path, parts: Iterable[bytes]) -> None:
        """A file that takes its place when it is complete and on disk, or not at all."""
        temporary = place.with_suffix(".part")
        try:
            temporary.unlink(missing_ok=True)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(place)
            sync_directory(self.directory)
        except OSError as error:
            raise VeilstatError(f"encrypted rows could not be written: {error.strerror}", code="disk_failed") from None


def _damaged() -> VeilstatError:
    return VeilstatError("the encrypted rows on disk are damaged; check the disk, remove them and upload again", code="epoch_damaged")
