"""Server processes that keep owners' rows: uploads over TLS, restarts, and uploads beside queries."""

import os

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from tests.servers import SERVERS, make_study, start_veilstat
from tests.test_servers import TABLES
from veilstat.platform.remote_servers import RemoteServers
from veilstat.platform.simulation import Simulation
from veilstat.platform.study import Study
from veilstat.platform.study_file import load_definition
from veilstat.transports.connection import Timeouts

POOLED = pd.concat(TABLES.values())


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """(study, folder, processes) of three servers that hold the rows of all owners."""
    folder = make_study(tmp_path_factory.mktemp("rows"))
    text = (folder / "study.toml").read_text().replace('open = "estimate"', 'open = "estimate"\nentry = "rows"')
    (folder / "study.toml").write_text(text)
    for name, table in TABLES.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    for name in SERVERS:
        (folder / f"{name}-rows").mkdir(mode=0o700)
        config = (folder / f"{name}.toml").read_text().replace("[timeouts]", f'uploads = "{name}-rows"\n\n[timeouts]')
        (folder / f"{name}.toml").write_text(config.replace("progress = 1.5", "progress = 4"))
    processes = {name: start_veilstat(folder, name) for name in SERVERS}
    definition = load_definition(folder / "study.toml")
    hosts = RemoteServers(definition, folder / "private", Timeouts(reconnect=0.5, progress=10.0))
    yield Study(definition, Simulation(definition, TABLES, {}, (), os.urandom, hosts)), folder, processes
    hosts.endpoint.close()
    for process in processes.values():
        process.terminate()
        process.wait(5)


def test_rows_that_were_uploaded_once_serve_queries_and_survive_restarts(deployment):
    study, folder, processes = deployment
    assert study.mean("bp").estimate == POOLED["bp"].mean()
    for name in SERVERS:
        processes[name].kill()
        processes[name].wait(5)
        processes[name] = start_veilstat(folder, name)
    assert study.mean("bp").estimate == POOLED["bp"].mean()
    assert study.quantile("age", 0.5).estimate == np.quantile(POOLED["age"], 0.5, method="inverted_cdf")


def test_what_was_opened_before_a_restart_is_not_opened_again_over_an_upload_since(deployment):
    study, _, _ = deployment
    study.mean("bp")
    study.upload("south")
    with pytest.raises(vs.PolicyDenied, match="south replaced its rows") as error:
        study.mean("bp")
    assert error.value.code == "isolating_difference"


def test_a_query_keeps_its_rows_while_owners_upload_and_ends_when_one_withdraws(deployment):
    study, _, _ = deployment
    for owner in ("north", "west"):
        study.upload(owner)
    query = vs.Quantile("bp", 0.25, form="search")
    result = study.run(query, progress=lambda label, done, at_most: study.upload("west") if label == "count" else None)
    assert result.estimate == np.quantile(POOLED["bp"], 0.25, method="inverted_cdf")
    for owner in ("north", "south"):
        study.upload(owner)
    with pytest.raises(vs.PolicyDenied) as error:
        study.run(query, progress=lambda label, done, at_most: study.withdraw("south") if label == "count" else None)
    assert error.value.code == "upload_withdrawn"
