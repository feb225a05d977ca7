"""Addresses that no configuration means: those at which a cloud gives keys to whoever asks from inside a machine."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

_METADATA: Final = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
_OTHERS: Final = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")})
_WITHIN: Final = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0/96", "64:ff9b::/96")))
"""Where the last 32 bits of an address are one of IPv4: compatible, mapped, translated (RFC 4291, RFC 6052)."""


def refused(url: str) -> str:
    """Return why nothing is sent to a URL; empty where something may be.

    Loopback and private addresses are where metrics and switches live; link-local ones are not. Names are taken as they
    are written: what a name server makes of others is known only once they are asked for, and may change until then.

    >>> refused("http://169.254.169.254/latest"), refused("http://prometheus:9090")
    ('169.254.169.254 is an address of the machine itself (cloud metadata), where no service is: check the URL', '')
    >>> refused("http://2852039166/")[:10]
    '2852039166'
    """
    host = _plain(urlsplit(url).hostname or "")
    address = _literal(host)
    if address is not None:
        amiss = any(each.is_link_local or each in _OTHERS for each in (address, *_inside(address)))
    else:
        amiss = host.lower() in _METADATA
    said = f"{host} is an address of the machine itself (cloud metadata), where no service is: check the URL"
    return said if amiss else ""


def _plain(host: str) -> str:
    """Return a host as clients look it up: full-width digits and dots of other scripts are digits and dots to them."""
    try:
        return host.encode("idna").decode().rstrip(".")
    except UnicodeError:
        return host.rstrip(".")


def _inside(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """Yield the address of IPv4 that one of IPv6 stands for, if it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.sixtofour is not None:
            yield address.sixtofour
        if any(address in network for network in _WITHIN):
            yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


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
