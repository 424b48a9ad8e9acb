"""Sorting shared values: shuffle them by a permutation that nobody knows, then compare in the open (Hamada et al., ICISC 2012).

The shuffle applies three permutations one after the other; each is known to two servers, which share a key, and its
result is shared anew, so that the third cannot follow it (Laur, Willemson, Zhang, ISC 2011). Keys are made distinct by
the places that they come from. So whatever the values are, the order of the shuffled keys is a uniformly random one,
and results of comparisons, which follow from it, may be opened: they are as independent of the values as it is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veilstat.errors import CapabilityError

from .araki16 import Elements, Shares, constant, open_masked, reshare, stacked
from .conversion import sign_bits
from .prss import Party
from .ring import NARROW, narrowed
from .rounds import SERVERS, Protocol

_PIVOTS = 3
"""How many elements of a segment all its others are compared with: more take fewer rounds and more comparisons."""

_WIDEST_DIFFERENCE = 62
_DRAWN = 16
"""Bytes by which a permutation sorts each place: for 2^24 places two agree with probability below 2^-80."""

Places = npt.NDArray[np.int64]


def sort(party: Party, values: Shares, bits: int) -> Protocol[Shares]:
    """A vector of signed integers |x| < 2^bits in ascending order, modulo 2^64.

    For n values about 2 n log2(n) comparisons of bits + log2(n) bits, in about log2(n) rounds of comparisons; how many
    exactly depends on the shuffle alone. Servers learn nothing but the order of the shuffled values.

    Raises:
        CapabilityError: the values and their places have more than 61 bits together.
    """
    count = len(values.own)
    places = max(0, count - 1).bit_length()
    width = bits + places + 1
    if width > _WIDEST_DIFFERENCE:
        raise CapabilityError(f"{count:,} values of {bits} bits are too wide to be sorted; coarsen the columns' steps", code="too_wide")
    low = narrowed(values)
    keys = low.scaled(1 << places) + constant(party, NARROW, np.arange(count))
    mixed = yield from shuffled(party, stacked([low, keys]))
    return mixed[0][(yield from _order(party, mixed[1], width))]


def shuffled(party: Party, shares: Shares) -> Protocol[Shares]:
    """The same elements in a uniformly random order of the last axis, which no server knows; three rounds."""
    for key in range(SERVERS):
        own, previous = (_permutation(stream) for stream in party.prss.draw(_DRAWN * shares.shape[-1]))
        shares = yield from reshare(party, shares.domain, _summand(party, shares, key, own, previous))
    return shares


def _summand(party: Party, shares: Shares, key: int, own: Places, previous: Places) -> Elements:
    """What the two servers that hold a key have of the elements, in that key's order; nothing at the third server."""
    if party.index == key:
        return shares.domain.add(shares.own, shares.previous)[..., own]
    if (party.index - 1) % SERVERS == key:
        return shares.own[..., previous]
    return shares.domain.encode(np.zeros(shares.shape, dtype=np.int64))


def _permutation(stream: memoryview) -> Places:
    """A uniformly random permutation, from 16 random bytes for each place."""
    words = np.frombuffer(stream, dtype="<u8").reshape(-1, 2)
    return np.lexsort((words[:, 0], words[:, 1]))


def _order(party: Party, keys: Shares, bits: int) -> Protocol[Places]:
    """The places of distinct keys in ascending order, by quicksort with several pivots; differences are below 2^bits.

    Every place knows its segment by how many keys are in smaller segments, which is its rank when it is alone.
    """
    segments = np.zeros(len(keys.own), dtype=np.int64)
    while len(np.unique(segments)) < len(segments):
        pivots, others, is_pivot = _pairs(segments)
        less = (yield from open_masked((yield from sign_bits(party, keys[pivots] - keys[others], bits)))).astype(bool)
        passed = np.concatenate([others[less], pivots[~less & is_pivot[others]]])
        segments = _split(segments, np.bincount(passed, minlength=len(segments)), is_pivot)
    return np.argsort(segments)


def _pairs(segments: Places) -> tuple[Places, Places, npt.NDArray[np.bool_]]:
    """Every pivot beside every place behind it in its segment, and which places are pivots: the first of each segment."""
    order = np.argsort(segments, kind="stable")
    starts = segments[order]
    within = np.arange(len(order)) - starts
    behind = [within > pivot for pivot in range(_PIVOTS)]
    pivots = np.concatenate([order[starts[later] + pivot] for pivot, later in enumerate(behind)])
    is_pivot = np.zeros(len(order), dtype=np.bool_)
    is_pivot[order[within < _PIVOTS]] = True
    return pivots, np.concatenate([order[later] for later in behind]), is_pivot


def _split(segments: Places, smaller_pivots: Places, is_pivot: npt.NDArray[np.bool_]) -> Places:
    """Smaller segments: each pivot by itself, the others between the pivots that they lie between."""
    finer = (segments * (_PIVOTS + 1) + smaller_pivots) * 2 + is_pivot
    _, which, sizes = np.unique(finer, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(sizes) - sizes)[which], dtype=np.int64)
