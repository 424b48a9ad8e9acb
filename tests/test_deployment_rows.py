"""Owners share their rows once over a deployment's lines and go offline; what interrupts an upload leaves nothing half done."""

import signal

import veilstat as vs
from tests.deployments import OWNERS, running, veilstat

SHARING = vs.Sharing(servers=3, entry="rows", open="estimate")
OPTIONS = 'servers = 3\nentry = "rows"\nopen = "estimate"'


def rows(deployment, verb, owner):
    return veilstat(deployment.folder, "rows", verb, "--config", f"{owner}.toml")


def said(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it(tmp_path):
    with running(tmp_path, "sharing", OPTIONS) as deployment:
        for owner in OWNERS:
            print(said(rows(deployment, "share", owner)))
            print(said(rows(deployment, "show", owner)))
            deployment.kill(owner, signal.SIGTERM)
        study = deployment.connect()
        print(study.mean("bp"))
        print(study.mean("bp").cost)
        print(deployment.log())
        print(deployment.log("north"))
        print(deployment.errors())
