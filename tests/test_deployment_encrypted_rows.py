"""Encrypted rows between processes: owners ask for a key, make it, and answer from disk whoever was killed in between."""

import signal
import time

import pandas as pd
import pytest

import veilstat as vs
from tests.deployments import OWNERS, TABLES, running
from tests.test_deployment_failures import Interceptor
from tests.test_deployment_rows import errand, schema
from veilstat.platform.deployment.epoch_opener import PAUSE

OPTIONS = 'entry = "rows"\nsmudging_bits = 40'
POOLED = pd.concat(TABLES.values())


def make_key(deployment):
    start = len(deployment.log())
    for owner in OWNERS:
        errand(deployment, "share", owner)
    deployment.wait_for("epoch_made", "server", start)


def restart(deployment, *names, how=signal.SIGKILL):
    for name in names:
        deployment.kill(name, how)
    start = len(deployment.log())
    deployment.start(*names)
    for owner in OWNERS if "coordinator" in names else names:
        deployment.wait_for("connected", owner, start)


@pytest.mark.long
def test_the_same_answers_as_in_one_process_across_restarts_of_everybody(tmp_path):
    with running(tmp_path, "homomorphic", OPTIONS) as deployment:
        study = deployment.connect()
        with pytest.raises(vs.CapabilityError) as error:
            study.mean("bp")
        assert error.value.code == "no_epoch"
        assert "no rows are encrypted" in errand(deployment, "show", "north")[0]
        make_key(deployment)
        twin = vs.simulate(TABLES, schema(tmp_path), vs.Homomorphic(entry="rows", smudging_bits=40))
        assert study.plan(vs.Mean("bp")).digest == twin.plan(vs.Mean("bp")).digest
        result = study.mean("bp")
        assert result.estimate == twin.mean("bp").estimate == pytest.approx(POOLED["bp"].mean(), rel=1e-14)
        spent = errand(deployment, "show", "north")
        assert "4 of 1,048,576 answers are spent" in spent[0]
        restart(deployment, "north", "coordinator")
        assert errand(deployment, "show", "north") == spent
        pd.testing.assert_series_equal(study.linear_regression("bp ~ age").params, twin.linear_regression("bp ~ age").params)
        assert (tmp_path / "north/epoch/secret").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "north/epoch").stat().st_mode & 0o777 == (tmp_path / "epoch").stat().st_mode & 0o777 == 0o700
        assert deployment.errors() == {}


@pytest.mark.long
def test_an_owner_that_lost_its_epoch_is_named_and_all_make_another_one(tmp_path):
    with running(tmp_path, "homomorphic", OPTIONS) as deployment:
        make_key(deployment)
        deployment.kill("north", signal.SIGTERM)
        for file in (tmp_path / "north/epoch").iterdir():
            file.unlink()
        start = len(deployment.log())
        deployment.start("north")
        deployment.wait_for("connected", "north", start)
        study = deployment.connect()
        with pytest.raises(vs.CapabilityError) as error:
            study.mean("bp")
        assert (error.value.code, error.value.culprits) == ("no_epoch", ("north",))
        assert "`veilstat rows share`" in error.value.message
        assert "is gone" in errand(deployment, "withdraw", "south")[0]
        assert "has withdrawn" in errand(deployment, "show", "south")[1]
        errand(deployment, "share", "north")
        errand(deployment, "share", "west")
        restart(deployment, "west")
        assert "is asked for" in errand(deployment, "show", "west")[1]
        start = len(deployment.log())
        errand(deployment, "share", "south")
        deployment.wait_for("epoch_made", "server", start)
        assert study.mean("bp").n == len(POOLED)
        assert [entry["event"] for entry in deployment.log("west") if entry["event"].startswith("key_")] == ["key_begun", "key_made"] * 2


@pytest.mark.long
@pytest.mark.parametrize("dies", ["west", "coordinator"])
def test_a_process_killed_while_the_key_is_made_comes_back_and_another_one_is_made_by_itself(tmp_path, dies):
    with running(tmp_path, "homomorphic", OPTIONS) as deployment:
        path, interceptor = tmp_path / "study.toml", Interceptor(tmp_path / "west/agent.sock")
        path.write_text(path.read_text().replace("west/agent.sock", "west/between.sock"))
        restart(deployment, "coordinator")
        for place in (3, 8):  # behind its greeting and its word: in the middle of what it reveals, and of its ciphertexts
            interceptor.act = lambda: deployment.kill(dies)
            interceptor.left = place
            for owner in OWNERS:
                errand(deployment, "share", owner)
            while dies in deployment.processes:
                time.sleep(0.05)
            start = len(deployment.log())
            deployment.start(dies)
            deployment.wait_for("epoch_made", "server", start, seconds=PAUSE + 90)
            assert deployment.connect().mean("bp").n == len(POOLED)
        interceptor.close()
