"""Which proxy the environment asks for, and what is said to it. Dialling it is the drivers' business."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ..core.wire import Origin


class Proxy(NamedTuple):
    """An HTTP proxy. `authorization` is a header value and secret."""

    host: str
    port: int
    authorization: str | None = None

    def __repr__(self) -> str:
        return f"Proxy({self.name})"

    @property
    def name(self) -> str:
        """Host and port, for messages."""
        return f"{self.host}:{self.port}"


def proxy_for(origin: Origin, env: Mapping[str, str]) -> Proxy | None:
    """The proxy for an origin, by HTTP_PROXY / HTTPS_PROXY / ALL_PROXY and NO_PROXY (lower case wins, as everywhere).

    ValueError for a proxy URL that cannot be used; its password is not quoted.
    """
    url = _first(env, f"{origin.scheme}_proxy", "all_proxy")
    if not url or bypassed(origin, _first(env, "no_proxy")):
        return None
    if "://" not in url:
        url = "http://" + url
    parts = urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError:
        raise ValueError(f"the {origin.scheme.upper()}_PROXY variable holds a bad port") from None
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(
            f"cannot use the {parts.scheme} proxy {parts.hostname or '?'} of the environment: only http:// proxies are "
            f"supported directly; pass http_client= (an httpx2 client with that proxy) instead"
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        authorization = "Basic " + base64.b64encode(pair).decode()
    return Proxy(parts.hostname, port, authorization)


def _first(env: Mapping[str, str], *names: str) -> str:
    for name in names:
        value = env.get(name) or env.get(name.upper())
        if value:
            return value.strip()
    return ""


def bypassed(origin: Origin, no_proxy: str) -> bool:
    """Whether NO_PROXY excepts this origin: `*`, host names with their subdomains, `host:port`, addresses, networks."""
    host = origin.host.lower().strip("[]").rstrip(".")
    for entry in no_proxy.lower().split(","):
        entry = entry.strip()
        if entry == "*":
            return True
        name, _, port = entry.rpartition(":") if entry.count(":") == 1 else (entry, "", "")
        if port and port != str(origin.port):
            continue
        name = name.strip("[]").lstrip("*").lstrip(".")
        if name and (host == name or host.endswith("." + name) or _inside(host, name)):
            return True
    return False


def _inside(host: str, network: str) -> bool:
    if "/" not in network:
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def connect_request(origin: Origin, proxy: Proxy, user_agent: str) -> bytes:
    """The CONNECT that opens a tunnel to an https origin."""
    where = authority(origin, always_port=True)
    lines = [f"CONNECT {where} HTTP/1.1", f"host: {where}", f"user-agent: {user_agent}"]
    if proxy.authorization:
        lines.append(f"proxy-authorization: {proxy.authorization}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def authority(origin: Origin, *, always_port: bool = False) -> str:
    """Host and, where it is not the scheme's own, port: the value of a Host header."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    usual = origin.port == (443 if origin.scheme == "https" else 80)
    return host if usual and not always_port else f"{host}:{origin.port}"
