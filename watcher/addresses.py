"""Addresses that no configuration means: those at which a cloud gives keys to whoever asks from inside a machine."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

_METADATA: Final = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
_OTHERS: Final = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")})


def refused(url: str) -> str:
    """Return why nothing is sent to a URL; empty where something may be.

    Loopback and private addresses are where metrics and switches live; link-local ones are not.

    >>> refused("http://169.254.169.254/latest"), refused("http://prometheus:9090")
    ('169.254.169.254 is an address of the machine itself (cloud metadata), where no service is: check the URL', '')
    >>> refused("http://2852039166/")[:10]
    '2852039166'
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    address = _literal(host)
    if address is not None:
        mapped = getattr(address, "ipv4_mapped", None) or address
        amiss = mapped.is_link_local or mapped in _OTHERS
    else:
        amiss = host.lower() in _METADATA
    said = f"{host} is an address of the machine itself (cloud metadata), where no service is: check the URL"
    return said if amiss else ""


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is, however it is written: 2852039166 and 0xa9fea9fe are 169.254.169.254."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.ip_address(socket.inet_aton(host))
    except OSError:
        return None
