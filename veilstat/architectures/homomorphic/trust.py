"""Whom configurations of homomorphic encryption trust, in numbers and in words."""

from __future__ import annotations

from veilstat.architectures.interface import NoiseSite, NoiseSource, Trust
from veilstat.architectures.threshold import formula, may_drop_out, may_pool
from veilstat.errors import CapabilityError

from .rows.query import COMMIT_ZERO
from .totals.mouchet21 import INPUT
from .totals.mouchet22 import AGREE

_KEY_WORDS = (
    "one untrusted cloud adds ciphertexts; the secret key is made afresh for every opening, each owner holds a share, nobody holds it whole"
)
_UNDEFENDED_WORDS = (
    "not defended: an owner that encrypts or decrypts otherwise than the protocol says, and owners that lie about their own data"
)


def trust_in_all(threshold: int, count: int, colluding: int, min_owners: int | None) -> Trust:
    """Where all of ``count`` owners who made a key decrypt, at least ``threshold``."""
    words = (
        _KEY_WORDS,
        may_pool("the cloud", colluding, count),
        f"threshold {threshold} = {formula(colluding, min_owners)}: {may_drop_out(count, threshold)}"
        " until the shares of the key are revealed; from then on the loss of any owner ends the query",
        _UNDEFENDED_WORDS,
    )
    noise = NoiseSource(NoiseSite.OWNERS, count, threshold - colluding)
    return Trust(threshold, colluding, words, ("analyst",), all_needed_from=INPUT, noise=noise)


def trust_in_some(decrypting: int, least: int, count: int, colluding: int, min_owners: int | None) -> Trust:
    """Where any ``decrypting`` of ``count`` owners decrypt; CapabilityError for fewer than ``least``, or more than there are."""
    if type(decrypting) is not int or not least <= decrypting <= count:
        raise CapabilityError(
            f"threshold={decrypting!r} of {count} data owners is not possible: a whole number from {formula(colluding, min_owners)} = {least}, "
            f"which keeps two honest owners in every decryption, to {count}",
            code="threshold_unreachable",
        )
    words = (
        _KEY_WORDS,
        may_pool("the cloud", colluding, count),
        f"any {decrypting} of the {count} data owners together can decrypt (at least {least} = {formula(colluding, min_owners)}): others may drop out "
        f"until the {decrypting} who decrypt are fixed, and what they had encrypted stays in the sum; from then on the loss of one of these ends the query",
        _UNDEFENDED_WORDS,
    )
    return Trust(decrypting, colluding, words, ("analyst",), all_needed_from=AGREE)


def trust_with_rows(count: int, colluding: int) -> Trust:
    """Where encrypted rows lie with the cloud, and all of ``count`` owners decrypt."""
    words = (
        "one untrusted cloud keeps ciphertexts of all rows and multiplies them; the secret key is made once for many queries, each owner holds a "
        "share, nobody holds it whole",
        may_pool("the cloud, the analyst" if colluding else "the cloud and the analyst", colluding, count),
        f"all {count} data owners are needed for every answer: each computes it again from what everybody uploaded, and decrypts nothing else",
        "everybody learns how many rows each owner has, rounded up by at most an eighth, and in which of its columns values are missing",
        _UNDEFENDED_WORDS,
    )
    noise = NoiseSource(NoiseSite.OWNERS, count, count - colluding)
    return Trust(count, colluding, words, ("analyst",), all_needed_from=COMMIT_ZERO, noise=noise)
