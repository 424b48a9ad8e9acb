"""Three servers in one process, for tests of protocols on replicated sharing; all randomness is fresh."""

import os

import numpy as np

from veilstat.architectures.sharing.protocols.araki16 import reconstruct, share
from veilstat.architectures.sharing.protocols.prss import Party, Prss
from veilstat.architectures.sharing.protocols.rounds import run_three


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
