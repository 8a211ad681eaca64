"""`/openapi.json`, our routes described in OpenAPI 3.1, and `/docs`, the same as a page of plain HTML.

The pydantic models of app/api/bodies.py make the schemas, and those of AUTOMATIC1111's bodies parse them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from app import text
from app.limits import MAX_BODY_BYTES

SCHEMA_PATH, PAGE_PATH = "/openapi.json", "/docs"
REFERENCE = "#/components/schemas/{model}"
ABOUT = (
    f"Bodies are JSON, at most {MAX_BODY_BYTES // 2**20} MiB. A server with passwords asks for a name and "
    "its password with every request; one without serves its own machine alone."
)
REFUSALS = {
    "4XX": "The request is wrong, or has to wait (429): the answer says why in a sentence.",
    "5XX": "The server cannot draw at the moment: the answer says why in a sentence.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What the description says of a route; `body` is the model of what it is sent."""

    method: str
    path: str
    summary: str
    body: type[BaseModel] | None = None


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI document of these endpoints."""
    bodies = {one.body for one in endpoints if one.body is not None}
    ordered = sorted(bodies, key=lambda body: body.__name__)
    schemas, parts = models_json_schema([(body, "validation") for body in ordered], ref_template=REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        operation: dict[str, Any] = {
            "summary": one.summary,
            "operationId": f"{one.method.lower()} {one.path}",
            "responses": {
                "200": {"description": "Done.", "content": {"application/json": {"schema": {}}}},
                **{status: {"description": says} for status, says in REFUSALS.items()},
            },
        }
        if one.body is not None:
            schema = schemas[one.body, "validation"]
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        paths.setdefault(one.path, {})[one.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": text.TITLE, "version": "1", "description": ABOUT},
        "paths": paths,
        "security": [{}, {"basic": []}, {"bearer": []}],
        "components": {
            "schemas": parts.get("$defs", {}),
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer", "description": "NAME:PASSWORD as the key."},
            },
        },
    }


def routes(endpoints: Sequence[Endpoint]) -> list[Route]:
    """The description for programs, and the page for people."""
    document = describe(endpoints)
    described, page = json.dumps(document, indent=1), _page(document)

    async def schema(_asked: Request) -> Response:
        return Response(described, media_type="application/json")

    async def docs(_asked: Request) -> Response:
        return HTMLResponse(page)

    return [Route(SCHEMA_PATH, schema), Route(PAGE_PATH, docs)]


def _page(document: dict[str, Any]) -> str:
    """No script, and nothing from elsewhere: what a page of Swagger's would load, the doors refuse."""
    parts = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(operation['summary'])}</p>")
            if "requestBody" in operation:
                reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                schema = document["components"]["schemas"][reference.rpartition("/")[2]]
                parts.append("<table><tr><th>Field<th>Type<th>If left out<th>")
                parts += [_row(name, field) for name, field in schema["properties"].items()]
                parts.append("</table>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{text.TITLE}: API</title>"
        "<style>:root{color-scheme:light dark;font:16px/1.5 system-ui}body{max-width:56rem;margin:2rem auto;"
        "padding:0 1rem}table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;"
        "padding:.2rem .8rem .2rem 0}</style>"
        f'<h1>{text.TITLE}: API</h1><p>{ABOUT} <a href="{SCHEMA_PATH}">{SCHEMA_PATH}</a></p>'
        f"{''.join(parts)}</html>"
    )


def _row(name: str, field: dict[str, Any]) -> str:
    kinds = [_kind(one) for one in field.get("anyOf", [field])]
    default = json.dumps(field["default"]) if "default" in field else ""
    cells = (f"<code>{escape(name)}</code>", ", ".join(kinds), default, field.get("description", ""))
    return "<tr>" + "".join(f"<td>{cell if cell.startswith('<code>') else escape(cell)}" for cell in cells)


def _kind(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum", schema.get("maxLength"))
    bounds = f" {low} to {high}" if low is not None else f" to {high}" if high is not None else ""
    words = " | ".join(json.dumps(value) for value in schema.get("enum", []))
    return words or f"{schema.get('type', 'anything')}{bounds}"
