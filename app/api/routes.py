"""Every route for programs, and the description of them all."""

from starlette.routing import Route

from app.api import a1111, openai, openapi
from app.context import Context


def routes(context: Context) -> list[Route]:
    """The routes of all APIs; the doors in front of them see to it who may come in."""
    found = [*openai.endpoints(context), *a1111.endpoints(context)]
    return [route for _, route in found] + openapi.routes([endpoint for endpoint, _ in found])
