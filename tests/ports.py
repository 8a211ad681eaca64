"""Ports for servers that a test starts a moment later."""

import contextlib
import random
import socket


def quiet_port() -> int:
    """A free port below those that the kernel gives to whoever connects, of which one is soon somebody's.

    Above those that browsers refuse.
    """
    while True:
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", random.SystemRandom().randrange(11_000, 32_000)))
            return int(free.getsockname()[1])
