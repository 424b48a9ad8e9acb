"""Machines on one machine: network namespaces with an address each, joined by a router in this process that opens connections by a table only (root, Linux)."""

import fcntl
import os
import select
import socket
import struct
import subprocess
import threading
from contextlib import contextmanager, suppress

_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
_TCP, _SYN, _ACK = 6, 2, 16
_LONGEST_PACKET = 9000


class Router:
    """Passes packets on; a connection is begun where ``permits(source, target, port)`` says so. What was begun and what was refused is kept."""

    def __init__(self, permits):
        self.permits, self.tunnels, self.begun, self.refused = permits, {}, set(), set()
        self.stop, self.over = os.pipe()

    def join(self, address):
        """A device for whoever has this address; gives its name."""
        tunnel, name = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK), f"vs{os.getpid()}-{len(self.tunnels)}"
        fcntl.ioctl(tunnel, _TUNSETIFF, struct.pack("16sH", name.encode(), _TUN_WITHOUT_HEADER))
        self.tunnels[address] = tunnel
        return name

    def run(self):
        """Until the other end of the pipe is closed."""
        while True:
            ready, _, _ = select.select([self.stop, *self.tunnels.values()], [], [])
            if self.stop in ready:
                return
            for tunnel in ready:
                with suppress(OSError):
                    self.pass_on(os.read(tunnel, _LONGEST_PACKET + 100))

    def pass_on(self, packet):
        """IPv4 alone, and nothing that begins a connection which nobody permits."""
        if packet[0] >> 4 != 4:
            return
        source, target = (socket.inet_ntoa(packet[start : start + 4]) for start in (12, 16))
        head = 4 * (packet[0] & 15)
        is_tcp = packet[9] == _TCP
        port = int.from_bytes(packet[head + 2 : head + 4], "big")
        if not is_tcp or packet[head + 13] & (_SYN | _ACK) == _SYN:
            is_permitted = is_tcp and self.permits(source, target, port)
            (self.begun if is_permitted else self.refused).add((source, target, port))
            if not is_permitted:
                return
        if target in self.tunnels:
            os.write(self.tunnels[target], packet)


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def inside(name):
    """What to put before a command that runs in a namespace."""
    return ["ip", "netns", "exec", name]


@contextmanager
def namespaces(addresses, permits):
    """Namespaces by name, with these addresses in one network of 24 bits, and their router."""
    router = Router(permits)
    try:
        for name, address in addresses.items():
            ip("netns", "add", name)
            device = router.join(address)
            ip("link", "set", device, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "mtu", str(_LONGEST_PACKET), "up")
            ip("-n", name, "link", "set", "lo", "up")
        thread = threading.Thread(target=router.run)
        thread.start()
        yield router
        os.close(router.over)
        thread.join()
    finally:
        for name in addresses:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        for tunnel in router.tunnels.values():
            os.close(tunnel)


def are_permitted():
    """Whether this account may make namespaces and devices here."""
    if os.getuid() != 0:
        return False
    try:
        with namespaces({f"vs-try-{os.getpid()}": "10.77.0.250"}, lambda *_: False):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
