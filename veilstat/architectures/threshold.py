"""Thresholds, computed from the threat model and never typed in (Bonawitz et al. CCS'17, Theorem 6.3 and Fig. 5).

n owners, c of them collude with the server and with whoever learns the result. With threshold t any t owners can
open a session, so c colluding owners learn the sum of at least t - c honest ones (the figure's minimum inputs in a
sum); t >= c + 2 leaves at least two honest contributors in every sum.
"""

from __future__ import annotations

from dataclasses import dataclass

from veilstat.errors import CapabilityError


def require_curious(threat: str, protection: str) -> None:
    """CapabilityError for every threat but "curious"; ``protection`` says what is not there against an active one."""
    if threat == "active":
        raise CapabilityError(f"{protection} (threat='active') is not available yet; use threat='curious'", code="not_available")
    if threat != "curious":
        raise CapabilityError(f"threat must be 'curious' or 'active', not {threat!r}", code="bad_configuration")


@dataclass(frozen=True, slots=True)
class Threshold:
    """The fewest of ``owners`` data owners whose total may be opened, where everybody follows the protocol.

    Args:
        owners: how many there are. colluding: how many of them pool what they know.
        min_owners: the fewest that the configuration wants; None where it does not say.

    Raises:
        CapabilityError: fewer owners than the threshold; the message has the formula and the numbers.
    """

    owners: int
    colluding: int
    min_owners: int | None = None

    @staticmethod
    def of(owners: int, colluding: int | None, min_owners: int | None = None) -> Threshold:
        """The threshold of a configuration: where ``colluding`` is None, one owner colludes if that leaves two honest ones."""
        return Threshold(owners, max(0, min(1, owners - 2)) if colluding is None else colluding, min_owners)

    def __post_init__(self) -> None:
        if self.owners < 2:
            raise CapabilityError(
                f"a private total needs at least 2 data owners, there is {self.owners}: the total of one owner is its own data",
                code="too_few_owners",
            )
        wanted = 1 if self.min_owners is None else self.min_owners
        if type(self.colluding) is not int or self.colluding < 0 or type(wanted) is not int or wanted < 1:
            raise CapabilityError(
                "colluding must be a whole number, 0 or more, and min_owners a whole number, 1 or more", code="bad_configuration"
            )
        if self.count > self.owners:
            raise CapabilityError(
                f"{self.owners} data owners cannot reach the threshold {self.formula} = {self.count}; "
                "add owners, or lower colluding or min_owners",
                code="threshold_unreachable",
            )

    @property
    def count(self) -> int:
        """max(c + 2, min_owners), for a server that follows the protocol."""
        return max(self.colluding + 2, self.min_owners or 0)

    @property
    def honest(self) -> int:
        """How many owners of a total do not collude, at least."""
        return self.count - self.colluding

    @property
    def formula(self) -> str:
        """How it was computed, for plans and errors."""
        return f"max(colluding + 2, min_owners) = max({self.colluding} + 2, {self.min_owners or 0})"

    def may_pool(self, parties: str) -> str:
        """Who may put together what they see, in words."""
        if self.colluding == 0:
            return f"{parties} may use what they see, but no data owner may pool what it sees with them, as long as all follow the protocol"
        return f"{parties} and up to {self.colluding} of the {self.owners} data owners may pool what they see, as long as they follow the protocol"

    @property
    def may_drop_out(self) -> str:
        """How many owners may be lost, in words."""
        lost = self.owners - self.count
        return f"up to {lost} owner{'s' * (lost != 1)} may drop out" if lost else "no owner may drop out"
