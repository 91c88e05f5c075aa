"""Which Host and Origin headers are answered: the wall against DNS rebinding.

A page that rebinds its name to our address sends its own name as Host and as Origin. So, whatever
the port:
- listed names and origins (TASKTRAIL_ALLOWED_HOSTS, TASKTRAIL_ALLOWED_ORIGINS), and those of the
  audience when that is a URL, are answered everywhere;
- so are loopback's names, and as Host any address in figures if we are bound to more than
  loopback: no page can make its own name one of these;
- an origin is also good when it is the very Host that was found good;
- in another app (``bound_to`` None) the Host is that app's business unless hosts are listed.

The SDK's own check comes after the token's, compares bytes and knows none of this; it is off.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from mcp_server.settings import Settings

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Admission:
    """The rules for one server. ``bound_to`` is the address it listens on, None in another app."""

    def __init__(self, settings: Settings, bound_to: str | None) -> None:
        self._local = bound_to is None or is_loopback(bound_to)
        self._checks_hosts = bound_to is not None or bool(settings.allowed_hosts)
        self._hosts = {host.lower().removesuffix(":*") for host in settings.allowed_hosts}
        self._hosts |= set(_LOOPBACK)
        self._origins = {origin.lower().rstrip("/") for origin in settings.allowed_origins}
        audience = urlsplit(settings.audience or "")
        if audience.scheme in ("http", "https") and audience.netloc:
            self._hosts.add(audience.netloc.lower())
            self._origins.add(f"{audience.scheme}://{audience.netloc}".lower())

    def host(self, host: str) -> bool:
        """Whether to answer a request whose Host is ``host`` (empty: it has none)."""
        if not self._checks_hosts:
            return True
        host = host.lower()
        name = _without_port(host)
        if not self._hosts.isdisjoint((host, name, "*")):
            return True
        return not self._local and _is_address(name)

    def origin(self, origin: str, host: str) -> bool:
        """Whether to answer a page from ``origin`` that calls ``host``, which was found good."""
        origin = origin.lower()
        scheme, _, place = origin.partition("://")
        name = _without_port(place)
        if not self._origins.isdisjoint((origin, f"{scheme}://{name}:*", "*")):
            return True
        if scheme not in ("http", "https"):
            return False
        if self._checks_hosts and place == host.lower():
            return True
        return self._local and name in _LOOPBACK


def _without_port(place: str) -> str:
    name, colon, port = place.rpartition(":")
    return name if colon and port.isdecimal() else place


def _is_address(name: str) -> bool:
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Whether only this machine can call who listens on ``address``."""
    name = address.removeprefix("[").removesuffix("]")
    return name == "localhost" or (_is_address(name) and ip_address(name).is_loopback)
