"""The analyst's part of a query over encrypted rows: the cloud's part of each answer, and all owners' shares of it, added up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veilstat.architectures.interface import Released
from veilstat.arithmetic.agreement import KeyPair, unseal_with
from veilstat.protocol.context import DIGEST_BYTES
from veilstat.protocol.faults import violation
from veilstat.protocol.identity import SIGNATURE_BYTES

from ..messages import decode_parts, parts_size
from .bgv import Bgv
from .query import RowQuery


def result_bytes(query: RowQuery) -> int:
    """Bytes of what the analyst is sent, besides the names of the owners."""
    return query.answers_bytes + parts_size(query.owners, query.share_bytes)


def release(query: RowQuery, scheme: Bgv, pair: KeyPair, survivors: tuple[str, ...], raw: memoryview) -> Released:
    """What the server's result opens.

    Raises:
        ProtocolError: shares that are not of all owners, not signed, not sealed to the analyst, or of another part of the answers.
    """
    shares = decode_parts(raw[query.answers_bytes :], query.share_bytes, query.server)
    if set(shares) != set(query.owners) or set(survivors) != set(query.owners):
        raise violation("malformed", f"{query.server!r} sent shares of {len(shares)} owners, {len(query.owners)} are needed", query.server)
    part = raw[: query.answers_bytes]
    phases = query.decode(part)
    for name, signed in shares.items():
        box, signature = signed[:-SIGNATURE_BYTES], bytes(signed[-SIGNATURE_BYTES:])
        if not query.roster.verifies(name, query.share_statement(box), signature):
            raise violation("bad_share", f"shares in the name of {name!r} are not signed by it", query.server)
        opened = unseal_with(pair, query.context, query.label(name), bytes(box))
        if opened is None:
            raise violation("malformed", f"the shares of {name!r} were not sealed to the analyst", name)
        if opened[:DIGEST_BYTES] != query.digest_of(part):
            raise violation("bad_part", f"{query.server!r} and {name!r} computed different parts of the answers", query.server, name)
        phases = [phase + value for phase, value in zip(phases, query.decode(opened[DIGEST_BYTES:]), strict=True)]
    values = [its.content * scheme.decode(phase, its.low) for its, phase in zip(query.opened, phases, strict=True)]
    vector: npt.NDArray[np.object_] = np.array(values, dtype=object)
    return Released(vector, survivors)
