"""What an epoch keeps, and the approved circuit over it: products, sums and one relinearisation for each pair of groups.

The cloud and every owner compute the same ciphertexts from the same signed uploads, so that an owner who helps to
decrypt knows the whole history of what it decrypts. An answer is a sum of single coefficients of these ciphertexts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from veilstat.arithmetic.executor import SERIAL, Executor

from ..ring import Residues
from .bgv import Bgv, Product
from .layout import Layout
from .quadratic import Opened


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public part of an epoch, the same at the cloud and at every owner; arrays as they travelled.

    ``identity`` names it: it is the digest of everything that owners signed. ``rows``: how many each declared.
    """

    root: bytes
    identity: bytes
    rows: dict[str, int]
    incomplete: list[str]
    key: memoryview
    relinearisation: memoryview
    uploads: dict[str, memoryview]


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What a party keeps of an epoch: the record, and an owner its share of the secret key, as ternary coefficients."""

    record: Record = field(repr=False)
    secret: npt.NDArray[np.int8] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """One number: the sum of coefficients, times weights, of the ciphertexts of pairs of groups."""

    parts: tuple[tuple[tuple[int, int], int, int], ...]

    @staticmethod
    def of(opened: Opened, layout: Layout) -> Answer:
        """Where the inner products of ``opened`` stand; CapabilityError where a mask was not uploaded."""
        cells = [(layout.cell(first, second, mask), weight) for first, second, mask, weight in opened.products]
        return Answer(tuple(((cell.left, cell.right), cell.position, weight) for cell, weight in cells))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Products over one epoch's uploads, shared out by ``executor``."""

    scheme: Bgv
    layout: Layout
    record: Record
    executor: Executor = SERIAL

    def totals(self, answers: Sequence[Answer]) -> dict[tuple[int, int], Residues]:
        """For every pair of groups that answers need, the relinearised sum of products over all owners and blocks.

        Owners are shared among workers: the ring's compiled loops run without the interpreter's lock. Each holds one sum a pair.
        """
        pairs = sorted({pair for answer in answers for pair, _, _ in answer.parts})
        owners, primes = sorted(self.record.uploads), len(self.scheme.ring.transforms)
        key = self.scheme.ring.from_bytes(self.record.relinearisation).reshape(2, primes, primes, -1)
        workers = min(self.executor.workers, len(owners))
        parts = list(self.executor.map(lambda first: self._sums(owners[first::workers], pairs), range(workers)))
        sums = [self.scheme.total(part[pair] for part in parts) for pair in pairs]
        return dict(zip(pairs, self.executor.map(lambda total: self.scheme.relinearise(total, key), sums), strict=True))

    def digest(self, totals: Mapping[tuple[int, int], Residues]) -> bytes:
        """A digest of all ciphertexts, in order of their pairs."""
        state = hashlib.sha256()
        for pair in sorted(totals):
            state.update(self.scheme.ring.to_bytes(totals[pair]))
        return state.digest()

    def combined(self, answers: Sequence[Answer], elements: Mapping[tuple[int, int], Residues], zero: Residues) -> list[int]:
        """For each answer the same sum over any polynomials, plus the coefficient of ``zero`` that is its own, modulo Q."""
        positions: dict[tuple[int, int], list[int]] = {}
        for answer in answers:
            for pair, position, _ in answer.parts:
                positions.setdefault(pair, []).append(position)
        values = {pair: iter(self.scheme.ring.to_integers(elements[pair], wanted)) for pair, wanted in positions.items()}
        own = self.scheme.ring.to_integers(zero, slice(len(answers)))
        sums = [
            start + sum(weight * next(values[pair]) for pair, _, weight in answer.parts) for answer, start in zip(answers, own, strict=True)
        ]
        return [value % self.scheme.ring.modulus for value in sums]

    def _sums(self, owners: Sequence[str], pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Product]:
        """Sums of products over some owners' blocks, of which one is read at a time."""
        sums: dict[tuple[int, int], Product] = {}
        for block in self._blocks(owners, pairs):
            for left, right in pairs:
                product = self.scheme.multiply(block[left], block[len(self.layout.left) + right])
                sums[left, right] = self.scheme.total([sums[left, right], product]) if (left, right) in sums else product
        return sums

    def _blocks(self, owners: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Iterator[dict[int, Residues]]:
        """The ciphertexts of each block that pairs need, by group."""
        ring, layout = self.scheme.ring, self.layout
        size, wanted = 2 * ring.element_bytes, sorted({left for left, _ in pairs} | {len(layout.left) + right for _, right in pairs})
        for owner in owners:
            raw = self.record.uploads[owner]
            for block in range(layout.blocks(self.record.rows[owner])):
                starts = {group: (block * layout.groups + group) * size for group in wanted}
                yield {group: ring.from_bytes(raw[start : start + size]) for group, start in starts.items()}
