"""The analyst's side of a gateway that answers something else."""

import pytest

import veilstat as vs
from veilstat.platform.deployment.connect import Deployment
from veilstat.platform.deployment.gateway_client import GatewayClient


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"round": null, "missing": [], "bytes": {"north": "many"}}',
        b'{"round": 3, "missing": [], "bytes": {}}',
        b'{"round": null, "missing": "north", "bytes": {}}',
        b'{"round": null, "missing": []}',
    ],
)
def test_a_status_of_another_shape_is_told_as_what_it_is(answer, monkeypatch):
    client = GatewayClient("https://gateway.example:8443", "token", None)
    monkeypatch.setattr(client, "request", lambda method, path: (None, answer))
    with pytest.raises(vs.CapabilityError, match="is no veilstat gateway") as error:
        Deployment(client, None, None, 1.0).status()
    assert error.value.code == "no_gateway"
    monkeypatch.setattr(
        client, "request", lambda method, path: (None, b'{"round": null, "missing": [], "bytes": {"north": 7}, "query": null}')
    )
    assert Deployment(client, None, None, 1.0).status()["bytes"] == {"north": 7}
