"""Uploaded tables: what an owner shares once of its rows, so that servers answer any number of queries without it.

A table is a stack of planes, arrays with one ring element per row, from which every column of a circuit follows
without a comparison on rows: codes, presence, and one indicator for each level of a categorical column but its first.
Rows are padded to a declared number with zeros in every plane; plane 0 is 1 in real rows. Planes are dealt as totals are
(`dealing.py`): two servers receive one component, and the third next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from veilstat.architectures.interface import Random
from veilstat.arithmetic.rings import Elements, Ring
from veilstat.errors import ProtocolViolation
from veilstat.schema.columns import Categorical, Codes
from veilstat.schema.schema import Schema

from .dealing import Dealing, Residues, replicated

COUNTED, PRESENT, CODES, LEVEL = "counted", "present", "codes", "level"
UPLOAD_BITS = 128
"""The ring of uploads: wide enough for logistic regression; narrow computations use its lower half."""

_LARGEST_HEADER = 1 << 20


@dataclass(frozen=True, slots=True)
class Plane:
    """One array of an upload: 1 in real rows, a column's presence or codes, or the indicator of one of its codes."""

    kind: str
    column: str = ""
    code: int = 0


def planes(schema: Schema, complete: tuple[str, ...]) -> tuple[Plane, ...]:
    """The planes of a table whose ``complete`` columns have, as their owner declares, no missing value."""
    result = [Plane(COUNTED)]
    for column in schema:
        if column.name not in complete:
            result.append(Plane(PRESENT, column.name))
        if isinstance(column, Categorical):
            result += [Plane(LEVEL, column.name, code) for code in range(1, column.top + 1)]
        else:
            result.append(Plane(CODES, column.name))
    return tuple(result)


@dataclass(frozen=True, slots=True)
class Header:
    """What everybody may know of an upload. The servers' parts belong together if and only if their headers are equal.

    Args:
        owner: whose rows; version: a counter that grows with every upload of this owner.
        schema: digest of the schema; complete: its columns that have no missing value, in the schema's order.
        rows: how many rows, padding included; ring_bits: 64 or 128.
        identifier: 16 random bytes as hexadecimal digits, so that parts of two dealings are never combined.
        terms: the owner's policy, as text, for as long as the upload is used.
    """

    owner: str
    version: int
    schema: str
    complete: tuple[str, ...]
    rows: int
    ring_bits: int
    identifier: str
    terms: str = ""

    def __post_init__(self) -> None:
        numbers = (self.version, self.rows, self.ring_bits)
        if not self.owner or not all(0 < number < 1 << 63 for number in numbers) or self.ring_bits not in (64, 128):
            raise ProtocolViolation("the header of an upload is malformed", code="upload_header")

    @property
    def ring(self) -> Ring:
        """The ring of every plane."""
        return Ring(self.ring_bits)

    @property
    def dealing(self) -> Dealing:
        """How every plane is split among the three servers."""
        return replicated(Residues(self.ring))

    @property
    def plane_bytes(self) -> int:
        """Bytes of one component of one plane."""
        return self.rows * self.ring_bits // 8

    def to_bytes(self) -> bytes:
        """Canonical JSON: equal headers, equal bytes."""
        return msgspec.json.encode(self, order="sorted")

    @staticmethod
    def from_bytes(raw: bytes) -> Header:
        """The header that ``to_bytes`` wrote.

        Raises:
            ProtocolViolation: malformed.
        """
        try:
            return msgspec.json.decode(raw[:_LARGEST_HEADER], type=Header)
        except (msgspec.MsgspecError, RecursionError):
            raise ProtocolViolation("the header of an upload is malformed", code="upload_header") from None


def plane_values(plane: Plane, columns: Mapping[str, Codes], count: int, rows: int) -> npt.NDArray[np.int64]:
    """One plane of a table of ``count`` rows in the clear, padded with zeros to ``rows``."""
    values = np.zeros(rows, dtype=np.int64)
    if plane.kind == COUNTED:
        values[:count] = 1
        return values
    codes, present = columns[plane.column]
    if plane.kind == PRESENT:
        values[:count] = present
    elif plane.kind == CODES:
        values[:count] = np.where(present, codes, 0)
    else:
        values[:count] = present & (codes == plane.code)
    return values


def deal(header: Header, schema: Schema, columns: Mapping[str, Codes], count: int, random: Random) -> Iterator[list[bytes]]:
    """For each plane in order, the payloads of servers 0, 1 and 2.

    Raises:
        ProtocolViolation: more rows than the header declares, or a value is missing in a column declared complete.
    """
    if count > header.rows:
        raise ProtocolViolation("the table has more rows than its upload declares; declare more", code="upload_rows")
    if not all(columns[name][1].all() for name in header.complete):
        raise ProtocolViolation("a column declared complete has missing values; declare it incomplete", code="upload_incomplete")
    for plane in planes(schema, header.complete):
        yield list(header.dealing.deal(plane_values(plane, columns, count, header.rows), random))


def expand(header: Header, server: int, payload: bytes | memoryview) -> Elements:
    """Both components of one plane at a server: shape (2, limbs, rows), own first.

    Raises:
        ProtocolViolation: the payload's length does not fit the header.
    """
    ring, dealing = header.ring, header.dealing
    if len(payload) != dealing.payload_bytes(server, header.rows):
        raise ProtocolViolation("a plane of an upload has the wrong length", code="upload_size", culprits=(header.owner,))
    result = np.empty((2, ring.limbs, header.rows), dtype=ring.dtype)
    for component, elements in zip(result, dealing.components(server, payload, header.rows), strict=True):
        component[:] = elements.reshape(header.rows, ring.limbs).T
    return result


@dataclass(frozen=True, slots=True, eq=False)
class UploadedRows:
    """One owner's rows at one server; ``words`` has shape (planes, 2, limbs, rows) and may lie on disk."""

    header: Header
    planes: tuple[Plane, ...]
    words: npt.NDArray[Any] = field(repr=False)

    def __post_init__(self) -> None:
        if self.words.shape != (len(self.planes), 2, self.header.ring.limbs, self.header.rows):
            raise ValueError(f"words of shape {self.words.shape} are not those of the header")
