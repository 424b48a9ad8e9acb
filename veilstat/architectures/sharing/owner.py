"""A data owner's side: deal, seal to each compute server, and be done."""

from __future__ import annotations

from veilstat.architectures.interface import Contribution, Random, StepBinding
from veilstat.arithmetic.agreement import seal_to
from veilstat.protocol.session import Message, Turn

from .dealing import Dealing
from .messages import SHARE, Share, share_label


def deal_out(binding: StepBinding, dealing: Dealing, integers: object, contribution: Contribution, random: Random) -> Turn:
    """Send every server its components of ``integers``."""
    owner = binding.identity.name
    payloads = dealing.deal(integers, random)
    sent = []
    for server, payload in zip(binding.servers, payloads, strict=True):
        content = Share(contribution.fewest, payload).encode()
        sealed = seal_to(binding.roster.sealing[server], binding.step, share_label(owner, server), content, random)
        sent.append(Message(SHARE, server, sealed))
    return Turn(tuple(sent), None, binding.participants)
