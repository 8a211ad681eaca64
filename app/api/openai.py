"""OpenAI's images API, `POST /v1/images/generations` and `GET /v1/models`, in front of the queue of the page.

The form is that of https://platform.openai.com/docs/api-reference/images, its stream included; fields named
`latent_studio` are ours. What is drawn lies in no folder here and in no history: it is sent and forgotten.
"""

import asyncio
import base64
import dataclasses
import io
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.api.bodies import ImagesOrder
from app.api.drawing import POLL_SECONDS, Drawing, owner_of, read_body, until_over
from app.api.openapi import Endpoint
from app.api.order import ApiError, Order, read_order
from app.cards import ModelCard
from app.context import Context
from app.job import JobView
from app.previews import preview_pictures
from models.errors import ModelError, RequestError, StudioError
from pipelines.inputs import InputStore
from pipelines.remote_server import EVERYTHING, GENERATIONS, MODELS

PREVIEW_SCALE = 8  # a latent pixel of a preview is sent as 8 x 8
SIGN_OF_LIFE_SECONDS = 10.0  # proxies end a connection that is silent for longer
TYPES = {429: "rate_limit_error", 500: "server_error", 503: "server_error"}


def endpoints(context: Context) -> list[tuple[Endpoint, Route]]:
    """The routes of the API, described; whoever mounts them sees to it who may come in."""
    api = ImagesApi(context)
    models = Endpoint(method="GET", path=MODELS, summary="The models to draw with.")
    generate = Endpoint(
        method="POST",
        path=GENERATIONS,
        summary="Draw pictures, as OpenAI's images API does.",
        body=ImagesOrder,
    )
    return [
        (models, Route(MODELS, api.models, methods=["GET"])),
        (generate, Route(GENERATIONS, api.generate, methods=["POST"])),
    ]


class ImagesApi:
    """Answers programs: each order is a job of its own, which ends when its program is gone."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.inputs = InputStore(context.settings.inputs)

    async def models(self, asked: Request) -> Response:
        """What can be drawn with, and how each model draws best."""
        return _json(200, {"object": "list", "data": [_model(card) for card in self.context.models]})

    async def generate(self, asked: Request) -> Response:
        """Draw, and answer with PNG files in base64: all at the end, or as server-sent events."""
        try:
            body = await read_body(asked)
            order = await to_thread.run_sync(read_order, body, self.context.models, self.inputs)
            drawing = await to_thread.run_sync(
                Drawing, self.context.jobs, order.request, order.card, owner_of(asked)
            )
        except ClientDisconnect:
            return Response(status_code=400)
        except StudioError as error:
            return _refusal(error)
        if order.stream:
            return Stream(drawing, order, self.context.settings.previews_per_second)
        return await _whole(drawing, order, asked)


class Stream(StreamingResponse):
    """Server-sent events: `image_generation.partial_image`, `image_generation.completed`, or `error`."""

    def __init__(self, drawing: Drawing, order: Order, previews_per_second: float) -> None:
        self.drawing, self.order = drawing, order
        self.pause_seconds = 1 / previews_per_second
        super().__init__(
            self._events(), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end; whoever closes the response before it ends the drawing, too."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.drawing.leave()

    async def _events(self) -> AsyncIterator[bytes]:
        seen, shown, last = None, 0, time.monotonic()
        # Looked at in turns: a thread that waits for the job would be one less for the page.
        while not (view := self.drawing.view()).over:
            now = time.monotonic()
            if view.event is not None and view.event is not seen and now - last >= self.pause_seconds:
                seen, last = view.event, now
                if shown < self.order.previews:
                    shown += 1
                    for event in await to_thread.run_sync(self._previews, view, shown):
                        yield _event(event)
            elif now - last > SIGN_OF_LIFE_SECONDS:
                last = now
                yield b": waiting\n\n"
            await asyncio.sleep(POLL_SECONDS)
        try:
            for picture in await to_thread.run_sync(_pictures, self.drawing, view):
                yield _event({"type": "image_generation.completed", **self._common(), **picture})
        except StudioError as error:
            yield _event({"type": "error", **_error(error)[1]})

    def _previews(self, view: JobView, number: int) -> list[dict[str, Any]]:
        event, pictures = view.event, preview_pictures(view, PREVIEW_SCALE)
        assert event is not None
        if not pictures and not self.order.is_ours:
            return []
        facts = {"step": event.step, "total": event.total, "sigma": event.sigma, "images": event.images}
        return [
            {
                "type": "image_generation.partial_image",
                "partial_image_index": number - 1,
                # A step that cannot be seen is told of all the same to who follows steps.
                "b64_json": _png(pictures[index]) if pictures else "",
                **self._common(),
                EVERYTHING: {"image": event.image_index + index, "first": event.image_index, **facts},
            }
            for index in range(event.images)
        ]

    def _common(self) -> dict[str, Any]:
        return {"created_at": int(self.drawing.job.created), **_form(self.order)}


async def _whole(drawing: Drawing, order: Order, asked: Request) -> Response:
    """The answer once everything is drawn, which stops where the program goes away before."""
    try:
        view = await until_over(drawing, asked)
        if view is None:
            return Response(status_code=400)  # which nobody reads
        data = await to_thread.run_sync(_pictures, drawing, view)
    except StudioError as error:
        return _refusal(error)
    finally:
        drawing.leave()
    return _json(200, {"created": int(drawing.job.created), **_form(order), "data": data})


def _pictures(drawing: Drawing, view: JobView) -> list[dict[str, Any]]:
    """Each picture in OpenAI's form, once the job is over; ApiError or RequestError if there is none."""
    pictures = []
    for drawn in drawing.finished(view):
        result, request = drawn.result, drawn.request
        facts = {
            "engine": result.engine,
            "model": result.model_name,
            "model_id": result.model_id,
            "seconds": round(result.seconds, 3),
        }
        if result.note:
            facts["note"] = result.note
        pictures.append(
            {
                "b64_json": base64.b64encode(drawn.png()).decode(),
                EVERYTHING: {"seed": request.seed, **facts, "request": request.to_dict()},
            }
        )
    return pictures


def _form(order: Order) -> dict[str, Any]:
    size = f"{order.request.width}x{order.request.height}"
    return {"size": size, "quality": "auto", "background": "opaque", "output_format": "png"}


def _model(card: ModelCard) -> dict[str, Any]:
    facts = dataclasses.asdict(card)
    ours = {name: facts[name] for name in ("defaults", "factor", "distilled", "examples", "words")}
    return {"id": card.name, "object": "model", "created": 0, "owned_by": EVERYTHING, EVERYTHING: ours}


def _png(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


def _error(error: StudioError) -> tuple[int, dict[str, Any]]:
    """The status and the body of a refusal, in OpenAI's form."""
    status, code = 400 if isinstance(error, RequestError | ModelError) else 503, None
    if isinstance(error, ApiError):
        status, code = error.status, error.code
    kind = TYPES.get(status, "invalid_request_error")
    return status, {"error": {"message": str(error), "type": kind, "param": None, "code": code}}


def _refusal(error: StudioError) -> Response:
    status, body = _error(error)
    response = _json(status, body)
    if status == 429:
        response.headers["retry-after"] = "2"
    return response


def _event(values: dict[str, Any]) -> bytes:
    return f"event: {values['type']}\ndata: {json.dumps(values)}\n\n".encode()


def _json(status: int, values: dict[str, Any]) -> Response:
    # In ASCII: half a surrogate pair, quoted in a refusal, has no UTF-8.
    return Response(json.dumps(values), status, media_type="application/json")
