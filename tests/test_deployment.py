"""Owners, coordinator and compute servers as processes give the embedded study's answers, and survive each other's deaths."""

import pandas as pd
import pytest

import veilstat as vs
from tests.deployments import OWNERS, SCHEMA, TABLES, running
from veilstat.schema.schema import Schema

POOLED = pd.concat(TABLES.values())
ARCHITECTURES = {
    "masking": (("masking", "colluding = 1"), lambda: vs.Masking(colluding=1)),
    "sharing": (("sharing", 'open = "estimate"'), lambda: vs.Sharing(open="estimate")),
    "homomorphic": (("homomorphic", "colluding = 1"), lambda: vs.Homomorphic(colluding=1)),
}


def schema(folder):
    (folder / "plain.toml").write_text(SCHEMA)
    return Schema.from_toml(folder / "plain.toml")


@pytest.mark.long
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_same_answers_as_in_one_process(architecture, tmp_path):
    words, embedded = ARCHITECTURES[architecture]
    with running(tmp_path, *words) as deployment:
        study = deployment.connect()
        twin = vs.simulate(TABLES, schema(tmp_path), embedded())
        result = study.mean("bp")
        assert result.estimate == twin.mean("bp").estimate == pytest.approx(POOLED["bp"].mean(), rel=1e-14)
        assert result.contributors == OWNERS
        assert study.plan(vs.Mean("bp")).digest == twin.plan(vs.Mean("bp")).digest
        ours, theirs = study.linear_regression("bp ~ age"), twin.linear_regression("bp ~ age")
        pd.testing.assert_series_equal(ours.params, theirs.params)
        assert 0 < ours.cost.bytes_per_owner <= theirs.cost.bytes_per_owner * 1.1
        for name in list(deployment.processes):
            assert deployment.kill(name, 15) == 0
        assert deployment.errors() == {} or architecture == "sharing"
