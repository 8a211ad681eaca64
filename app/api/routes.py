"""Every route of programs that the server has besides Gradio's: what is served and what is tested."""

from starlette.routing import BaseRoute

from app.api import openai
from app.context import Context


def routes(context: Context) -> list[BaseRoute]:
    """The routes; the doors in front of them see to it who may come in."""
    return [*openai.routes(context)]
