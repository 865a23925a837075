"""Where a request goes, and whether it may: URLs, hosts, networks."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from fnmatch import fnmatch
from urllib.parse import quote, urlsplit

__all__ = ["address_of", "check_url", "endpoint_url", "host_of", "is_host", "is_loopback", "is_public", "origin"]

_VERSIONS = {"v1", "v2", "v3"}
_LAST = {"rerank", "reranking", "ranking", "reranks", "rerankings"}  # what whole paths end with


def endpoint_url(base: str, path: str) -> str:
    """Where to send requests.

    Args:
        base: What the user gave: scheme and host, with or without a slash, a prefix, a version or the whole path.
        path: The provider's path, perhaps with a query string.

    Returns:
        The URL. Steps that both have are there once, and a version or a whole path of the user's wins.
    """
    parts = urlsplit(base)
    path, _, query = path.partition("?")
    given = [step for step in parts.path.split("/") if step]
    wanted = [step for step in path.split("/") if step]
    if given and (given[-1] == wanted[-1] or given[-1] in _LAST):
        steps = given
    else:
        if given and given[-1] in _VERSIONS and wanted[0] in _VERSIONS:
            wanted = wanted[1:]
        shared = max((n for n in range(len(wanted)) if given[len(given) - n :] == wanted[:n]), default=0)
        steps = [*given, *wanted[shared:]]
    query = parts.query or query
    return f"{parts.scheme}://{parts.netloc}/{quote('/'.join(steps), safe='/:@%')}{'?' + query if query else ''}"


def check_url(url: str, *, with_key: bool, allow_insecure: bool) -> None:
    """Refuse an address that no request, or no key, may go to.

    Raises:
        ValueError: If it is not http or https, holds a name and password, or would carry a key without TLS.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        msg = "base_url is not a URL."
        raise ValueError(msg) from error
    if parts.scheme not in {"http", "https"} or not host:
        msg = "base_url must begin with https:// or http:// and name a host."
        raise ValueError(msg)
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        msg = "base_url must not hold a name and password: give the key as api_key."
        raise ValueError(msg)
    if parts.fragment:
        msg = "base_url must not have a part after '#'."
        raise ValueError(msg)
    if with_key and parts.scheme == "http" and not is_loopback(host) and not allow_insecure:
        msg = f"The key would go to {host} unencrypted. Use https://, or allow_insecure=True where the network is your own."
        raise ValueError(msg)


def host_of(url: str) -> str:
    """Host of a URL, in lower case; empty where there is none."""
    return urlsplit(url).hostname or ""


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, host_of(url), parts.port or (443 if parts.scheme == "https" else 80)


def is_host(host: str, patterns: Sequence[str]) -> bool:
    """Whether a host is one of those."""
    return any(fnmatch(host.lower(), pattern.lower()) for pattern in patterns)


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is written as; None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    address = address_of(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def is_public(address: str) -> bool:
    """Whether an address is one of the public Internet, and not of a private, local or reserved network."""
    found = address_of(address)
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is None and (found.is_reserved or found.is_site_local or found in _LOCAL_NAT64):
            return False
        found = inner or found
    if found is None or (isinstance(found, ipaddress.IPv4Address) and any(found in network for network in _CLOUDS)):
        return False
    return found.is_global and not found.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_CLOUDS = [ipaddress.IPv4Network(network) for network in ("192.0.0.0/24", "168.63.129.16/32")]  # their metadata
