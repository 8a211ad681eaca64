"""What the tabs have in common: who asks, how their events are set up, what people are told."""

from typing import Any

import gradio as gr

from app import text
from app.context import Context
from app.database import BROWSER

# Made into a `select` event with the `data-id` of what was clicked.
CLICK_ON_ID = (
    "element.addEventListener('click', event => { const target = event.target.closest('[data-id]');"
    " if (target) trigger('select', {id: target.dataset.id}); });"
)
POLITE = "element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite');"
FOCUS_TRIES, FOCUS_PAUSE_MS = 100, 50  # until Gradio has shown what is to have the focus
BROWSER_CIPHER = "latent-studio"  # fixed, or a restart would forget who drew what
QUICK: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
# What an event writes: a value for each of its outputs in their order, or for some of them by component.
Update = tuple[Any, ...]
Updates = dict[gr.blocks.Block, Any]


def owner_of(request: gr.Request | None, browser: str) -> str:
    """Who asks: the login name where there is one, else the secret that this browser keeps."""
    name = request.username if request is not None else None
    return f"user:{name}" if name else f"{BROWSER}{browser}"


def viewers(context: Context) -> dict[str, Any]:
    """The settings of an event that watches a job."""
    return {
        "show_progress": "hidden",
        "api_visibility": "private",
        "trigger_mode": "once",
        "concurrency_id": "viewers",
        "concurrency_limit": context.settings.viewers_at_once,
    }


def focus_on(selector: str) -> str:
    """The script of an event that moves the focus to what it has just shown, once that can be seen."""
    return (
        f"() => {{ let tries = {FOCUS_TRIES}; const look = setInterval(() => {{ "
        f"const found = document.querySelector('{selector}'); "
        "if (found?.offsetParent) found.focus(); "
        "if (document.activeElement === found || --tries === 0) clearInterval(look); "
        f"}}, {FOCUS_PAUSE_MS}); }}"
    )


def refusal(reason: object) -> gr.Error:
    """What a person is told whose wish cannot be done."""
    return gr.Error(str(reason), title=text.NOT_POSSIBLE, print_exception=False)
