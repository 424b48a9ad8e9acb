"""Thresholds, computed from the threat model and never typed in (Bonawitz et al. CCS'17, Fig. 5).

n owners, c of them collude with the server and with whoever learns the result. With threshold t any t owners can
open a session, so c colluding owners learn the sum of at least t - c honest ones; t >= c + 2 leaves at least two
honest contributors in every sum.
"""

from __future__ import annotations

from veilstat.errors import CapabilityError


def require_curious(threat: str, protection: str) -> None:
    """CapabilityError for every threat but "curious"; ``protection`` says what is not there against an active one."""
    if threat == "active":
        raise CapabilityError(f"{protection} (threat='active') is not available yet; use threat='curious'", code="not_available")
    if threat != "curious":
        raise CapabilityError(f"threat must be 'curious' or 'active', not {threat!r}", code="bad_configuration")


def default_colluding(owners: int) -> int:
    """One colluding owner, where that leaves two honest ones."""
    return max(0, min(1, owners - 2))


def curious_threshold(owners: int, colluding: int, min_owners: int | None) -> int:
    """max(c + 2, min_owners), for a server that follows the protocol.

    Raises:
        CapabilityError: fewer owners than the threshold; the message has the formula and the numbers.
    """
    if owners < 2:
        raise CapabilityError(
            f"a private total needs at least 2 data owners, there is {owners}: the total of one owner is its own data",
            code="too_few_owners",
        )
    if type(colluding) is not int or colluding < 0 or (min_owners is not None and (type(min_owners) is not int or min_owners < 1)):
        raise CapabilityError("colluding must be a whole number, 0 or more, and min_owners one of 1 or more", code="bad_configuration")
    threshold = max(colluding + 2, min_owners or 0)
    if threshold > owners:
        raise CapabilityError(
            f"{owners} data owners cannot reach the threshold {formula(colluding, min_owners)} = {threshold}; "
            "add owners, or lower colluding or min_owners",
            code="threshold_unreachable",
        )
    return threshold


def formula(colluding: int, min_owners: int | None) -> str:
    """How a threshold was computed, for plans and errors."""
    return f"max(colluding + 2, min_owners) = max({colluding} + 2, {min_owners or 0})"


def may_pool(parties: str, colluding: int, owners: int) -> str:
    """Who may put together what they see, in words."""
    if colluding == 0:
        return f"{parties} may use what they see, but no data owner may pool what it sees with them, as long as all follow the protocol"
    return f"{parties} and up to {colluding} of the {owners} data owners may pool what they see, as long as they follow the protocol"


def may_drop_out(owners: int, threshold: int) -> str:
    """How many owners may be lost, in words."""
    lost = owners - threshold
    return f"up to {lost} owner{'s' * (lost != 1)} may drop out" if lost else "no owner may drop out"
