"""Whom configurations of homomorphic encryption trust, in numbers and in words."""

from __future__ import annotations

from veilstat.architectures.interface import NoiseSite, NoiseSource, Trust
from veilstat.architectures.threshold import Threshold
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


def trust_in_all(threshold: Threshold) -> Trust:
    """Where all who made a key decrypt."""
    words = (
        _KEY_WORDS,
        threshold.may_pool("the cloud"),
        f"threshold {threshold.count} = {threshold.formula}: {threshold.may_drop_out}"
        " until the shares of the key are revealed; from then on the loss of any owner ends the query",
        _UNDEFENDED_WORDS,
    )
    noise = NoiseSource(NoiseSite.OWNERS, threshold.owners, threshold.honest)
    return Trust(threshold.count, threshold.colluding, words, ("analyst",), all_needed_from=INPUT, noise=noise)


def trust_in_some(decrypting: int, least: Threshold) -> Trust:
    """Where any ``decrypting`` of all owners decrypt; CapabilityError for fewer than ``least``, or more than there are."""
    if type(decrypting) is not int or not least.count <= decrypting <= least.owners:
        raise CapabilityError(
            f"threshold={decrypting!r} of {least.owners} data owners is not possible: a whole number from {least.formula} = {least.count}, "
            f"which keeps two honest owners in every decryption, to {least.owners}",
            code="threshold_unreachable",
        )
    words = (
        _KEY_WORDS,
        least.may_pool("the cloud"),
        f"any {decrypting} of the {least.owners} data owners together can decrypt (at least {least.count} = {least.formula}): others may drop out "
        f"until the {decrypting} who decrypt are fixed, and what they had encrypted stays in the sum; from then on the loss of one of these ends the query",
        _UNDEFENDED_WORDS,
    )
    return Trust(decrypting, least.colluding, words, ("analyst",), all_needed_from=AGREE)


def trust_with_rows(threshold: Threshold) -> Trust:
    """Where encrypted rows lie with the cloud, and all owners decrypt."""
    count, colluding = threshold.owners, threshold.colluding
    words = (
        "one untrusted cloud keeps ciphertexts of all rows and multiplies them; the secret key is made once for many queries, each owner holds a "
        "share, nobody holds it whole",
        threshold.may_pool("the cloud, the analyst" if colluding else "the cloud and the analyst"),
        f"all {count} data owners are needed for every answer: each computes it again from what everybody uploaded, and decrypts nothing else",
        "everybody learns how many rows each owner has, rounded up by at most an eighth, and in which of its columns values are missing",
        _UNDEFENDED_WORDS,
    )
    noise = NoiseSource(NoiseSite.OWNERS, count, count - colluding)
    return Trust(count, colluding, words, ("analyst",), all_needed_from=COMMIT_ZERO, noise=noise)
