"""By which of its networks a machine reaches another one."""

from __future__ import annotations

import ipaddress
import socket

import psutil

LOCAL = ("localhost", "localhost.localdomain", "ip6-localhost")
ELSEWHERE = "192.0.2.1"  # kept for examples (RFC 5737): the way to it is the way out


def interface_to(address: str) -> str | None:
    """The name of the interface, such as eth0, that leads to `address`, a name or a number; None where that is not known.

    Nothing is sent. A name that means this machine itself, as many give their own in /etc/hosts, stands for what others know it
    by, which is the way out; only a number or name that says loopback leads to that.
    """
    own = _own_address(address)
    if own is not None and own.is_loopback and not _says_loopback(address):
        own = _own_address(ELSEWHERE) or own
    for name, held in psutil.net_if_addrs().items():
        if own is not None and any(each.address.partition("%")[0] == str(own) for each in held):
            return str(name)
    return None


def _own_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address of this machine that a connection to `address` would come from."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(place)
            return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0])
    except (OSError, ValueError):
        return None


def _says_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address.lower() in LOCAL
