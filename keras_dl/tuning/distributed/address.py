"""The address of a chief."""

import errno
import re
import socket

from keras_dl.errors import UserError


def parse_address(text: str) -> tuple[str, int]:
    """Splits `"HOST:PORT"` into host and port; an IPv6 host is in brackets.

    Raises:
        UserError: if the text is not such an address.
    """
    found = re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", text)
    if not found or not 0 < int(found[2]) < 2**16:
        raise UserError(f"expected HOST:PORT, such as 192.168.0.2:9000. Received: {text}")
    return found[1], int(found[2])


def check_free(host: str, port: int) -> None:
    """Checks that a chief can listen on an address, before a search is created.

    Args:
        host: an address or a name of this machine, an IPv6 address in brackets.
        port: int.

    Raises:
        UserError: if the port is taken or not permitted, or the host is not an address of this machine.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        refused = [error for family, *_, where in found if (error := _refusal(family, where))]
    except OSError as error:  # an unknown name
        found, refused = [], [error]
    # One of several addresses of a name is enough, unless another process listens on one of the others.
    if len(refused) == len(found) or any(error.errno == errno.EADDRINUSE for error in refused) or not found:
        raise UserError(f"cannot listen on {host}:{port}: {refused[0].strerror}")


def _refusal(family, where):
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # allows a port whose process has just ended
            probe.bind(where)
    except OSError as error:
        return error
    return None
