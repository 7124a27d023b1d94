"""Where a chief listens."""

import re

from keras_dl.errors import UserError


def parse_address(text: str) -> tuple[str, int]:
    """`"HOST:PORT"`, with an IPv6 host in brackets, as host and port.

    Raises:
        UserError: for anything else.
    """
    found = re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", text)
    if not found or not 0 < int(found[2]) < 2**16:
        raise UserError(f"expected HOST:PORT, such as 192.168.0.2:9000. Received: {text}")
    return found[1], int(found[2])
