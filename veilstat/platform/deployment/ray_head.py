"""Ray's head as a process beside the coordinator: it begins in a clean place, says why it did not begin, and does not outlive who started it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from veilstat.errors import CapabilityError
from veilstat.transports.address import Address

from .private import make_private

HEAD_LOG = "head.log"
STARTED_WITHIN = 120.0
SESSIONS_KEPT = 3
_LOOKS, _ANSWERS_WITHIN = 0.1, 1.0
_CURRENT_CLUSTER = "ray_current_cluster"
_KEEPER = "import os, signal, sys; sys.stdin.buffer.read(); os.killpg(0, signal.SIGKILL)"
"""The first process of the head's group, which kills it once its standard input ends, as it does when the coordinator is no more."""


def temporary(directory: Path) -> Path:
    """Where Ray keeps sockets and logs: inside, since Ray opens its own directory to every account of the machine."""
    return directory / "r"


def prepare_directory(directory: Path) -> None:
    """Make the directory around Ray's, which only this account may enter: who reaches Ray's sockets can run code as it.

    Ray leaves a directory of logs and sockets there whenever it is started. The last few stay, since they may say why Ray ended.

    Raises:
        SchemaError: it cannot be made. CapabilityError: there is one that others can enter, or that is another account's.
    """
    for missing in [parent for parent in reversed(directory.parents) if not parent.exists()]:
        make_private(missing)
    make_private(directory)
    if directory.stat().st_uid != os.getuid():
        raise CapabilityError(f"{directory} is another account's; choose another directory for Ray", code="not_own")
    sessions = sorted(path for path in temporary(directory).glob("session_*") if not path.is_symlink())
    for session in sessions[:-SESSIONS_KEPT]:
        shutil.rmtree(session, ignore_errors=True)


@contextmanager
def head_process(
    command: Sequence[str], environment: Mapping[str, str], address: Address, directory: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Ray's head, once it listens; it and all that it started are killed at the end, also when this process is killed.

    Raises:
        CapabilityError: something listens on its address already, its directory is not kept well, or it did not start.
    """
    if _listens(address):
        raise CapabilityError(
            f"another process listens on {address}, perhaps a head that was left behind; end it, or change head in [coordinator.ray]",
            code="head_taken",
        )
    prepare_directory(directory)
    # A head that was killed leaves its address here, and Ray starts none beside any process that mentions it: a node, or
    # an agent of the old head's, which stays for a minute.
    (temporary(directory) / _CURRENT_CLUSTER).unlink(missing_ok=True)
    keeper = subprocess.Popen([sys.executable, "-I", "-c", _KEEPER], stdin=subprocess.PIPE, process_group=0)
    head = None
    try:
        with (directory / HEAD_LOG).open("wb") as log:
            head = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=keeper.pid)
        _await(head, address, directory / HEAD_LOG)
        yield head
    finally:
        # Nobody has waited for the keeper yet, so the group's number means nobody else.
        os.killpg(keeper.pid, signal.SIGKILL)
        if head is not None:
            head.wait()
        keeper.communicate()


def _await(head: subprocess.Popen[bytes], address: Address, log: Path) -> None:
    deadline = time.monotonic() + STARTED_WITHIN
    while head.poll() is None and time.monotonic() < deadline:
        if _listens(address):
            return
        time.sleep(_LOOKS)
    how = f"is not there after {STARTED_WITHIN:g} seconds" if head.poll() is None else f"ended with status {head.returncode} as it started"
    raise CapabilityError(
        f"Ray's head on {address} {how}; {log} says why, and `veilstat doctor` checks ports and certificates", code="no_head"
    )


def _listens(address: Address) -> bool:
    try:
        socket.create_connection((address.host, address.port), timeout=_ANSWERS_WITHIN).close()
    except OSError:
        return False
    return True
