"""Encrypted rows between processes: owners ask for a key, make it, and answer from disk whoever was killed in between."""

import signal

import pandas as pd
import pytest

import veilstat as vs
from tests.deployments import OWNERS, SCHEMA, TABLES, running, veilstat
from veilstat.schema.schema import Schema

OPTIONS = 'entry = "rows"\nsmudging_bits = 40'
POOLED = pd.concat(TABLES.values())


def rows(deployment, verb, owner, code=0):
    done = veilstat(deployment.folder, "rows", verb, "--config", f"{owner}.toml")
    assert done.returncode == code, done
    return done.stdout + done.stderr


def make_key(deployment):
    start = len(deployment.log())
    for owner in OWNERS:
        rows(deployment, "share", owner)
    deployment.wait_for("epoch_made", "server", start)


def restart(deployment, *names, how=signal.SIGKILL):
    for name in names:
        deployment.kill(name, how)
    start = len(deployment.log())
    deployment.start(*names)
    for owner in OWNERS if "coordinator" in names else names:
        deployment.wait_for("connected", owner, start)


def test_the_same_answers_as_in_one_process_across_restarts_of_everybody(tmp_path):
    with running(tmp_path, "homomorphic", OPTIONS) as deployment:
        study = deployment.connect()
        with pytest.raises(vs.CapabilityError) as error:
            study.mean("bp")
        assert error.value.code == "no_epoch"
        assert "no rows are encrypted" in rows(deployment, "show", "north")
        make_key(deployment)
        (tmp_path / "plain.toml").write_text(SCHEMA)
        twin = vs.simulate(TABLES, Schema.from_toml(tmp_path / "plain.toml"), vs.Homomorphic(entry="rows", smudging_bits=40))
        assert study.plan(vs.Mean("bp")).digest == twin.plan(vs.Mean("bp")).digest
        result = study.mean("bp")
        assert result.estimate == twin.mean("bp").estimate == pytest.approx(POOLED["bp"].mean(), rel=1e-14)
        spent = rows(deployment, "show", "north")
        assert "4 of 1,048,576 answers are spent" in spent
        restart(deployment, "north", "coordinator")
        restart(deployment, "south", how=signal.SIGTERM)
        assert rows(deployment, "show", "north") == spent
        pd.testing.assert_series_equal(study.linear_regression("bp ~ age").params, twin.linear_regression("bp ~ age").params)
        assert (tmp_path / "north/epoch/secret").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "north/epoch").stat().st_mode & 0o777 == (tmp_path / "epoch").stat().st_mode & 0o777 == 0o700
        assert deployment.errors() == {}
