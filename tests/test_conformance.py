"""Every architecture passes the suite, and the suite catches architectures that leak."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import veilstat as vs
from veilstat.architectures.clear import Clear
from veilstat.architectures.homomorphic import Homomorphic
from veilstat.architectures.interface import Architecture
from veilstat.architectures.masking import Masking, bonawitz17
from veilstat.architectures.masking import architecture as masking
from veilstat.architectures.sharing import Sharing
from veilstat.architectures.totals import owner_totals
from veilstat.arithmetic.keystream import Keystream
from veilstat.language.cut import Cut
from veilstat.testing import conformance
from veilstat.testing.tables import small_schema, small_tables
from veilstat.testing.toy import ToyArithmetic

SHORT = conformance.queries(conformance.SHORT)
PROTECTING = {
    "masking": lambda: Masking(),
    "masking_server": lambda: Masking(recipient="server"),
    "masking_three_collude": lambda: Masking(colluding=3),
    "sharing": lambda: Sharing(),
    "sharing_two_servers": lambda: Sharing(servers=2, colluding=0),
    "sharing_among_owners": lambda: Sharing(servers="owners", min_owners=4),
    "sharing_sealed": lambda: Sharing(open="estimate"),
    "homomorphic": lambda: Homomorphic(),
    "masking_none_colludes": lambda: Masking(colluding=0, min_owners=2),
}
ALL = {
    **PROTECTING,
    "sharing_rows": lambda: Sharing(entry="rows"),
    "sharing_rows_sealed": lambda: Sharing(entry="rows", open="estimate"),
    "clear": Clear,
    "toy": lambda: ToyArithmetic(64),
}
QUERIES = {f"{query.name}-{place}": query for place, query in enumerate(conformance.queries())}
VARIANTS = ("masking_server", "masking_three_collude", "masking_none_colludes", "sharing_two_servers", "sharing_among_owners")
"""Who takes part differs from another architecture, what is computed does not: a few queries show it, and all do in the long suite."""
CASES = [
    pytest.param(name, query, marks=[pytest.mark.long] if name in VARIANTS and QUERIES[query] not in SHORT else [])
    for name in sorted(ALL)
    for query in QUERIES
]


@pytest.fixture(scope="module", params=sorted(ALL))
def make(request):
    return ALL[request.param]


@pytest.fixture(scope="module")
def study_of():
    """By the architecture's name, one study for all queries: uploading rows takes longer than asking."""
    return cache(lambda name: vs.simulate(small_tables(), small_schema(), ALL[name]()))


@pytest.fixture(scope="module")
def expected():
    """The oracle's answers, which are the same for every architecture."""
    oracle = vs.simulate(small_tables(), small_schema(), Clear())
    return {name: oracle.run(query) for name, query in QUERIES.items()}


def test_an_architecture_has_the_whole_interface(make):
    for name in (name for name in vars(Architecture) if not name.startswith("_")):
        assert hasattr(make(), name), name


@pytest.mark.parametrize(("architecture", "name"), CASES)
def test_answers_openings_and_costs(study_of, expected, architecture, name):
    conformance.check_run(study_of(architecture), QUERIES[name], expected[name])


@pytest.mark.parametrize("seeds", [pytest.param(range(2), id="some"), pytest.param(range(2, 5), id="more", marks=pytest.mark.long)])
def test_messages_may_arrive_in_any_order(make, seeds):
    conformance.check_every_order(make, seeds)


@pytest.mark.parametrize("check", ["every_dropout", "harmless_faults", "tampering"])
def test_faults(make, check):
    getattr(conformance, f"check_{check}")(make)


@pytest.mark.parametrize("name", sorted(PROTECTING))
def test_protection(name):
    conformance.check_protection(PROTECTING[name])


def test_the_oracle_does_not_pass_for_protected():
    with pytest.raises(AssertionError, match="as it is"):
        conformance.check_protection(Clear)


class _OneMore(Masking):
    """Mutant: opens the first number twice."""

    def _wide(self, binding):
        cut = binding.cut
        first = cut.openings[0]
        wide = Cut(
            cut.circuit,
            (replace(first, elements=first.elements * 2), *cut.openings[1:]),
            cut.answers,
            cut.lower[:1] + cut.lower,
            cut.upper[:1] + cut.upper,
        )
        return replace(binding, cut=wide)

    def owner(self, binding, contribution, random):
        return super().owner(self._wide(binding), contribution, random)

    def server(self, binding):
        return super().server(self._wide(binding))

    def analyst(self, binding, secret):
        return super().analyst(self._wide(binding), secret)


def test_an_extra_opening_is_caught():
    query = SHORT[0]
    with pytest.raises(AssertionError, match="the plan lists"):
        conformance.check_openings(_OneMore, query)
    with pytest.raises(AssertionError, match="the plan says"):
        conformance.check_cost(_OneMore, query)


def test_an_unmasked_entry_is_caught(monkeypatch):
    whole = Keystream._apply
    monkeypatch.setattr(Keystream, "_apply", lambda self, vector, seed, operation: whole(self, vector[1:], seed, operation))
    with pytest.raises(AssertionError, match="as it is"):
        conformance.check_protection(Masking)


def test_a_reused_mask_is_caught(monkeypatch):
    for name in ("pair_seed", "self_seed", "pad_seed"):
        monkeypatch.setattr(bonawitz17, name, lambda *_, name=name: name.encode().ljust(28, b"."))
    conformance.check_answer(Masking, SHORT[0])
    with pytest.raises(AssertionError, match="under the same mask"):
        conformance.check_protection(Masking)


def test_a_wrong_answer_is_caught(monkeypatch):
    monkeypatch.setattr(masking, "owner_totals", lambda *arguments: owner_totals(*arguments) + 1)
    with pytest.raises(AssertionError, match="instead of"):
        conformance.check_answer(Masking, SHORT[0])


def test_masks_that_do_not_cancel_are_no_total(monkeypatch):
    monkeypatch.setattr(bonawitz17, "adds_mask", lambda me, other: True)
    with pytest.raises(vs.ProtocolViolation, match="no total of data"):
        conformance.check_answer(Masking, SHORT[0])


def test_masked_vectors_look_uniform():
    """Chi-squared over the bytes of many masked vectors of the same small totals."""
    study = conformance._study(Masking())
    query = SHORT[1]
    for _ in range(40):
        study.run(query)
    raw = b"".join(payload for view in conformance._by_query(study, "masked_input") for payload in view.values())
    counts = np.bincount(np.frombuffer(raw, dtype=np.uint8), minlength=256)
    expected = len(raw) / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * (2 * 255) ** 0.5
