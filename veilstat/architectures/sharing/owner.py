"""An owner's side: deal, seal to each compute server, and be done."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from veilstat.architectures.interface import Random
from veilstat.arithmetic.agreement import seal_to
from veilstat.protocol.identity import Roster
from veilstat.protocol.session import Message, Turn

from .dealing import Dealing
from .messages import SHARE, Share, share_label


@dataclass(frozen=True, slots=True)
class Owner:
    """What an owner knows before the session; ``fewest`` is how many owners it wants in one total."""

    name: str
    roster: Roster
    servers: tuple[str, ...]
    participants: tuple[str, ...]
    context: bytes
    dealing: Dealing
    vector: npt.NDArray[np.object_] = field(repr=False)
    fewest: int
    random: Random = field(repr=False)

    def start(self) -> Turn:
        """Send every server its components."""
        payloads = self.dealing.deal(self.vector, self.random)
        return Turn(tuple(map(self._sealed, self.servers, payloads)), None, self.participants)

    def _sealed(self, server: str, payload: bytes) -> Message:
        content = Share(self.fewest, payload).encode()
        return Message(
            SHARE, server, seal_to(self.roster.sealing[server], self.context, share_label(self.name, server), content, self.random)
        )
