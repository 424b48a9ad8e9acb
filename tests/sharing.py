"""Three servers in one process, for tests of protocols on replicated sharing; all randomness is fresh."""

import os
from dataclasses import dataclass

import numpy as np

from veilstat.architectures.sharing.protocols.araki16 import reconstruct, share
from veilstat.architectures.sharing.protocols.prss import Party, Prss
from veilstat.architectures.sharing.protocols.rounds import advanced


@dataclass(frozen=True)
class Run:
    """What three servers ended with, and what each received in each round."""

    results: tuple
    received: tuple[tuple[bytes, ...], ...]

    @property
    def rounds(self):
        return len(self.received[0])

    @property
    def bytes_per_server(self):
        return sum(len(payload) for payload in self.received[0])


def run_three(protocols):
    """Run the protocols of servers 0, 1 and 2, each of which receives what the one before it sends; they must end together."""
    protocols, results, received, messages = list(protocols), {}, [], [None] * 3
    while not results:
        sent = {}
        for index, protocol in enumerate(protocols):
            try:
                sent[index] = advanced(protocol, messages[index])
            except StopIteration as stop:
                results[index] = stop.value
        if sent and results:
            raise RuntimeError("a server ended before the others")
        if sent:
            messages = [sent[(index - 1) % 3] for index in range(3)]
            received.append(messages)
    return Run(tuple(results[index] for index in range(3)), tuple(zip(*received, strict=True)) or ((), (), ()))


def parties(random=os.urandom):
    keys = [random(16) for _ in range(3)]
    return [Party(index, Prss(keys[index], keys[index - 1])) for index in range(3)]


def integers(values):
    flat = np.asarray(values, dtype=object).reshape(-1)
    return np.array([int(value) for value in flat] + [None], dtype=object)[:-1].reshape(np.shape(values))


def run(protocol, field, *values, random=os.urandom):
    """Run ``protocol(party, *shares)`` on a fresh sharing of each value; the run of the three servers."""
    dealt = [share(integers(value), field, random) for value in values]
    servers = parties(random)
    return run_three(protocol(party, *(shares[party.index] for shares in dealt)) for party in servers)


def opened(field, shares):
    """The signed integers behind the sharings that three servers hold."""
    return field.decode(reconstruct(shares))


def compute(protocol, field, *values, random=os.urandom):
    """The signed integers that ``protocol`` ends with, and its run."""
    ended = run(protocol, field, *values, random=random)
    return opened(field, ended.results), ended
