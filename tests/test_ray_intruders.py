"""Nodes with a wrong token, an expired certificate, another authority's or none do not join the cluster, and who belongs there does."""

import shutil
import subprocess
from datetime import UTC, datetime

import pytest

from tests.test_ray_lines import address, doctor, ray_deployment
from veilstat.platform.deployment.authority import issue_certificate, make_authority

pytestmark = pytest.mark.long
PATIENCE = 25
"""Seconds after which a node that has neither joined nor ended is told to end; one that belongs there joins in five."""


def wrong_token(folder, private):
    (folder / "ray.token").write_text("0" * 64)


def expired_certificate(folder, private):
    issue_certificate(private, folder / "ray-west.pem", [address("west")], datetime(2020, 1, 1, tzinfo=UTC))


def another_authority(folder, private):
    for name in ("authority.pem", "authority.key"):
        (folder / name).unlink(missing_ok=True)
    make_authority(folder, datetime.now(UTC))
    issue_certificate(folder, folder / "ray-west.pem", [address("west")], datetime.now(UTC))
    shutil.copy(private / "authority.pem", folder / "authority.pem")


def certificate_of_nobody(folder, private):
    """Its own authority, which it trusts itself."""
    another_authority(folder, private)
    shutil.copy(folder / "ray-west.pem", folder / "authority.pem")


def test_strangers_do_not_join_and_who_belongs_there_does(tmp_path):
    with ray_deployment(tmp_path) as deployment:
        private = tmp_path / "private"
        for harm in (wrong_token, expired_certificate, another_authority, certificate_of_nobody):
            folder = tmp_path / harm.__name__
            folder.mkdir()
            for name in ("ray.token", "ray-west.pem", "authority.pem"):
                shutil.copy(private / name, folder / name)
            harm(folder, private)
            deployment.launch_node("west", address("west"), "--certificates", str(folder), "--cluster", str(folder / "ray.token"))
            try:
                deployment.processes["west-node"].wait(PATIENCE)
            except subprocess.TimeoutExpired:
                assert "label owner=west no node" in doctor(deployment), harm.__name__
            # One that waits for a handshake does not hear that it is to end.
            deployment.kill("west-node")
        assert not any(entry["event"] == "connected" for entry in deployment.log())
        deployment.start_node("west")
