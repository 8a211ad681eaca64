"""The tab Generate with values in its controls, as a browser sends them."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from app.tabs.events import Updates, owner_of
from app.tabs.generate import GenerateTab

BROWSER = "a-secret-of-this-browser"
NOBODY = gr.Request(username=None)
OWNER = owner_of(NOBODY, BROWSER)
FORM = {"prompt": "a red apple", "size": "32x32", "steps": 3, "guidance_scale": 2.0, "seed": 7}
OpenTab = Callable[..., GenerateTab]


def values(fields: dict[str, gr.components.Component], **changes: object) -> dict[str, Any]:
    """What the controls hold as the page opens, but for FORM and these changes."""
    return {name: control.value for name, control in fields.items()} | FORM | changes


def submit(tab: GenerateTab, browser: str = BROWSER, **changes: object) -> Updates:
    """A press of Generate."""
    return tab.submit(browser, NOBODY, *values(tab.fields, **changes).values())


def click(picture: str) -> gr.EventData:
    """A click on what carries this id."""
    return gr.EventData(None, {"id": picture})
