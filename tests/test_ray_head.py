"""Ray's head as a process: it begins where another one was killed, says why it cannot, and is gone once whoever started it is."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

import veilstat as vs
from tests.deployments import ENVIRONMENT
from tests.servers import free_ports
from veilstat.platform.deployment.ray_head import HEAD_LOG, SESSIONS_KEPT, head_process, prepare_directory, temporary
from veilstat.transports.address import Address

LISTENING = """
import os, socket, subprocess, sys, time
orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(orphan.pid, flush=True)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(600)
"""
STARTER = """
import sys, time
from pathlib import Path
from veilstat.platform.deployment.ray_head import head_process
from veilstat.transports.address import Address
with head_process([sys.executable, "-c", sys.argv[3], sys.argv[1]], {}, Address("127.0.0.1", int(sys.argv[1])), Path(sys.argv[2])):
    print("started", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def address():
    return Address("127.0.0.1", free_ports(1)[0])


def command(address, text=LISTENING):
    return [sys.executable, "-c", text, str(address.port)]


def orphan(directory):
    return int((directory / HEAD_LOG).read_text().split()[0])


def is_gone(pid, seconds=10):
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_all_that_a_head_started_ends_with_it(tmp_path, address):
    with head_process(command(address), {}, address, tmp_path / "ray") as head:
        left = orphan(tmp_path / "ray")
        os.kill(head.pid, signal.SIGKILL)
        head.wait()
        assert psutil.pid_exists(left)
    assert is_gone(left)


def test_all_that_a_head_started_ends_with_it_when_its_keeper_is_gone_too(tmp_path, address):
    """Ray's own watcher tells the whole group to end, which agents take their time to do."""
    with head_process(command(address), {}, address, tmp_path / "ray") as head:
        left = orphan(tmp_path / "ray")
        (keeper,) = [process for process in psutil.Process().children() if "killpg" in " ".join(process.cmdline())]
        keeper.kill()
        os.kill(head.pid, signal.SIGKILL)
    assert is_gone(left)


def test_a_head_does_not_outlive_a_coordinator_that_is_killed(tmp_path, address):
    words = [sys.executable, "-c", STARTER, str(address.port), str(tmp_path / "ray"), LISTENING]
    with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout.readline() == "started\n"
        left = orphan(tmp_path / "ray")
        head = psutil.Process(left).ppid()
        starter.kill()
    assert is_gone(left)
    assert is_gone(head)
    with head_process(command(address), {}, address, tmp_path / "ray"):
        pass


def test_an_address_that_is_taken_is_said_before_anything_starts(tmp_path, address):
    with (
        head_process(command(address), {}, address, tmp_path / "ray"),
        pytest.raises(vs.CapabilityError, match="left behind") as error,
        head_process(command(address), {}, address, tmp_path / "other"),
    ):
        pass
    assert error.value.code == "head_taken"
    assert not (tmp_path / "other").exists()


def test_a_head_that_ends_as_it_starts_is_told_at_once_with_the_place_of_its_words(tmp_path, address):
    began = time.monotonic()
    with (
        pytest.raises(vs.CapabilityError, match="ended with status 3") as error,
        head_process(command(address, "print('port'); raise SystemExit(3)"), {}, address, tmp_path / "ray"),
    ):
        pass
    assert (error.value.code, time.monotonic() - began < 30) == ("no_head", True)
    assert str(tmp_path / "ray" / HEAD_LOG) in error.value.message
    assert (tmp_path / "ray" / HEAD_LOG).read_text() == "port\n"


def test_a_head_that_never_listens_is_given_up(tmp_path, address, monkeypatch):
    monkeypatch.setattr("veilstat.platform.deployment.ray_head.STARTED_WITHIN", 0.3)
    with (
        pytest.raises(vs.CapabilityError, match=r"not there after 0\.3 seconds"),
        head_process(command(address, "import time; time.sleep(600)"), {}, address, tmp_path / "ray") as head,
    ):
        assert head.poll() is not None


def test_the_address_that_a_killed_head_left_is_forgotten(tmp_path, address):
    temporary(tmp_path / "ray").mkdir(parents=True)
    (tmp_path / "ray").chmod(0o700)
    left = temporary(tmp_path / "ray") / "ray_current_cluster"
    left.write_text(str(address))
    with head_process(command(address), {}, address, tmp_path / "ray"):
        assert not left.exists()


def test_only_this_account_may_enter_rays_directory(tmp_path, monkeypatch):
    made = tmp_path / "deep" / "ray"
    prepare_directory(made)
    assert made.stat().st_mode & 0o777 == 0o700
    prepare_directory(made)
    made.chmod(0o711)
    with pytest.raises(vs.CapabilityError, match="chmod 700") as error:
        prepare_directory(made)
    assert error.value.code == "readable_by_others"
    made.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(vs.CapabilityError) as error:
        prepare_directory(made)
    assert error.value.code == "not_own"


def test_of_what_former_heads_left_the_last_stays(tmp_path):
    rays = temporary(tmp_path / "ray")
    prepare_directory(tmp_path / "ray")
    names = [f"session_2026-01-{day:02}_10-00-00_123456_{1000 - day}" for day in range(1, 8)]
    for name in names:
        (rays / name / "logs").mkdir(parents=True)
        (rays / name / "logs/gcs_server.out").write_text("why it ended")
    (rays / "session_latest").symlink_to(rays / names[-1])
    (rays / "prom_metrics").mkdir()
    prepare_directory(tmp_path / "ray")
    assert sorted(path.name for path in rays.iterdir()) == ["prom_metrics", *names[-SESSIONS_KEPT:], "session_latest"]
