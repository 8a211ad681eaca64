"""Who sits at this machine itself: what reads its disk and uses it for hours is for nobody else."""

import gradio as gr

from app.hosts import is_loopback
from app.middleware import PROXY_HEADERS


def sits_here(request: gr.Request | None) -> bool:
    """Whether a visitor is a person of this machine.

    On a server with passwords nobody is: by a share link or a proxy a visitor from anywhere comes from
    this machine's address, so those cannot be told apart. A server without passwords is bound to loopback
    (`app.server.check`), and what a proxy handed on is refused all the same.
    """
    if request is None or request.username is not None:
        return False
    if any(name in request.headers for name in PROXY_HEADERS):
        return False
    return request.client is not None and is_loopback(request.client.host)
