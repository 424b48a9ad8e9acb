"""Where a party listens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not self.host or not 0 < self.port < 1 << 16:
            raise ValueError(f"{self.host}:{self.port} is no address: that is a host and a port from 1 to 65535")

    @staticmethod
    def parse(text: str) -> Address:
        """``host:port``, or ``[address]:port`` for IPv6; ValueError for anything else."""
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdecimal() or not port.isascii():
            raise ValueError(f"{text!r} is not an address such as 'host:7401'")
        return Address(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
