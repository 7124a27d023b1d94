"""Refuses requests that a browser sends on behalf of a foreign web page to a server on this machine.

A page can send requests to 127.0.0.1 without being asked (cross-site requests), and with a host name that it resolves
to 127.0.0.1 it can also read the answers (DNS rebinding). A browser reveals both in the `Host` and `Origin` headers.
"""

import ipaddress
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from keras_dl.serving.server.errors import error_answer

_LOCAL = ("localhost", "127.0.0.1", "[::1]")


def allowed_hosts(host: str, address: str) -> tuple[str, ...] | None:
    """Returns the host names under which a server may be reached, or None for any.

    Args:
        host: the host that the user chose.
        address: the IP address that the server listens on.

    Example:

    >>> allowed_hosts("mine", "127.0.1.1"), allowed_hosts("0.0.0.0", "0.0.0.0")
    (('localhost', '127.0.0.1', '[::1]', 'mine'), None)
    """
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return None
    own = f"[{host}]" if ":" in host else host.lower()
    return _LOCAL if own in _LOCAL else (*_LOCAL, own)


class LocalOnly:
    """Middleware that returns 403 if the `Host` or `Origin` header names another host.

    Args:
        app: the ASGI application.
        hosts: the allowed hosts.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]):
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request or passes it on."""
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name in (b"host", b"origin") and not self._is_allowed(name, value.decode("latin-1")):
                    expected = f"expected the {name.decode().title()} header to name {', '.join(self._hosts)}"
                    message = f"{expected}, because the server is for this machine only. Received: "
                    await error_answer(403, message + value.decode("latin-1"))(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    def _is_allowed(self, name: bytes, value: str) -> bool:
        try:
            host = urlsplit(value if name == b"origin" else f"//{value}").netloc
        except ValueError:  # brackets without an IPv6 address
            return False
        name, colon, port = host.rpartition(":")
        host = name if colon and port.isdecimal() else host
        return host.lower() in self._hosts
