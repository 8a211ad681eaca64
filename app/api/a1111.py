"""AUTOMATIC1111's HTTP API, `/sdapi/v1/…`, in front of the queue of the page.

Asked and answered as https://github.com/AUTOMATIC1111/stable-diffusion-webui does (modules/api), so that
programs written for it draw here; what has no effect here is named under `ignored` of an answer's `info`.
"""

import base64
import io
import json
from collections.abc import Awaitable, Callable
from functools import partial
from secrets import token_hex
from typing import Any

from anyio import to_thread
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from app.api import bodies
from app.api.a1111_lists import lists
from app.api.a1111_order import decoded, find_model, ignored, model_of, read_order
from app.api.drawing import Drawing, Drawn, owner_of, read_body, until_over
from app.api.openapi import Endpoint
from app.api.order import ApiError
from app.cards import ModelCard
from app.context import Context
from app.job import JobState
from app.middleware import USER_KEY
from app.picture import NOBODY
from app.previews import preview_pictures
from models.errors import ModelError, RequestError, StudioError
from pipelines.infotext import parse_infotext, write_infotext
from pipelines.inputs import InputStore
from pipelines.metadata.a1111 import OUR_VERSION
from pipelines.metadata.texts import PARAMETERS, read_texts

ROOT = "/sdapi/v1/"
PREVIEW_SCALE = 8  # a latent pixel of a preview is sent as 8 x 8
Handler = Callable[[Request], Awaitable[Any]]


def endpoints(context: Context) -> list[tuple[Endpoint, Route]]:
    """Each route with what the OpenAPI page says of it; whoever mounts them sees to it who may come in."""
    api = A1111(context)
    found: list[tuple[str, str, str, Handler, type[BaseModel] | None]] = [
        ("POST", "txt2img", "Draw pictures from words.", api.txt2img, bodies.TextToImage),
        ("POST", "img2img", "Draw a picture from another one.", api.img2img, bodies.ImageToImage),
        ("POST", "png-info", "What is written in a picture.", api.png_info, bodies.Picture),
        ("GET", "progress", "How far the drawing is.", api.progress, None),
        ("POST", "interrupt", "End the drawing; what is finished is its answer.", api.interrupt, None),
        ("POST", "skip", "Leave the pictures that are being drawn.", api.skip, None),
        ("GET", "options", "The model that is drawn with.", api.options, None),
        ("POST", "options", "Choose the model to draw with.", api.set_options, bodies.Options),
        ("POST", "refresh-checkpoints", "Look at the models anew.", api.refresh, None),
    ]
    for name, (says, answer) in lists(context).items():
        found.append(("GET", name, says, partial(_listed, answer), None))
    return [
        (
            Endpoint(method=method, path=ROOT + name, summary=says, body=body),
            Route(ROOT + name, _answering(handler), methods=[method]),
        )
        for method, name, says, handler, body in found
    ]


class A1111:
    """Answers programs; what each is drawing, and the model that it chose, are its owner's."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.inputs = InputStore(context.settings.inputs)
        self.chosen: dict[str, str] = {}
        self.drawings: dict[str, list[Drawing]] = {}

    async def txt2img(self, asked: Request) -> dict[str, Any] | None:
        """Draw from words."""
        return await self._draw(asked, bodies.TextToImage)

    async def img2img(self, asked: Request) -> dict[str, Any] | None:
        """Draw from a picture."""
        return await self._draw(asked, bodies.ImageToImage)

    async def png_info(self, asked: Request) -> dict[str, Any]:
        """The texts of a picture, and the settings in them."""
        body = bodies.read(bodies.Picture, await read_body(asked))

        def read() -> dict[str, Any]:
            texts = read_texts(decoded("image", body.image))
            info = texts.get(PARAMETERS, "")
            return {"info": info, "items": texts, "parameters": parse_infotext(info) if info else {}}

        return await to_thread.run_sync(read)

    async def progress(self, asked: Request) -> dict[str, Any]:
        """How far the first drawing of this owner is; zeros where there is none."""
        drawings = self.drawings.get(owner_of(asked), [])
        drawing = next((one for one in drawings if one.view().state is JobState.RUNNING), None)
        drawing = drawing or next(iter(drawings), None)
        state: dict[str, Any] = {
            "skipped": False,
            "interrupted": False,
            "stopping_generation": False,
            "job": "",
            "job_count": len(drawings),
            "job_timestamp": "0",
            "job_no": 0,
            "sampling_step": 0,
            "sampling_steps": 0,
        }
        answer = {
            "progress": 0.0,
            "eta_relative": 0.0,
            "state": state,
            "current_image": None,
            "textinfo": None,
        }
        if drawing is None:
            return answer
        view = drawing.view()
        state |= {"skipped": drawing.skipped, "interrupted": drawing.interrupted, "job": view.id}
        if view.event is not None:
            state |= {"sampling_step": view.event.step, "sampling_steps": view.event.total}
        if asked.query_params.get("skip_current_image", "false").lower() not in ("true", "1"):
            pictures = await to_thread.run_sync(preview_pictures, view, PREVIEW_SCALE)
            answer["current_image"] = _base64_png(pictures[0]) if pictures else None
        return answer | {"progress": view.fraction, "eta_relative": view.seconds_left or 0.0}

    async def interrupt(self, asked: Request) -> dict[str, Any]:
        """End what this owner is drawing."""
        for drawing in self.drawings.get(owner_of(asked), []):
            await to_thread.run_sync(drawing.interrupt)
        return {}

    async def skip(self, asked: Request) -> None:
        """Go on with the next pictures."""
        for drawing in self.drawings.get(owner_of(asked), []):
            if drawing.view().state is JobState.RUNNING:
                drawing.skip()

    async def options(self, asked: Request) -> dict[str, Any]:
        """What of AUTOMATIC1111's settings there is here."""
        card = self._model(owner_of(asked), None)
        return {
            "sd_model_checkpoint": card.name,
            "sd_checkpoint_hash": "",
            "sd_vae": "Automatic",
            "samples_format": "png",
            "CLIP_stop_at_last_layers": 1,
        }

    async def set_options(self, asked: Request) -> dict[str, Any]:
        """Choose a model for what this owner draws from now on."""
        body = bodies.read(bodies.Options, await read_body(asked))
        if body.sd_model_checkpoint:
            self.chosen[owner_of(asked)] = find_model(body.sd_model_checkpoint, self.context.models).name
        return {"ignored": sorted(body.model_extra or {})}

    async def refresh(self, asked: Request) -> None:
        """Read what changed of the models on the disk."""
        await to_thread.run_sync(self.context.models.look)

    def _model(self, owner: str, named: str | None) -> ModelCard:
        models = self.context.models
        if not len(models):
            raise ApiError(503, "No model is here to draw with.")
        if named is not None:
            return find_model(named, models)
        chosen = self.chosen.get(owner)
        return next((card for card in models if card.name == chosen), models[0])

    async def _draw(self, asked: Request, kind: type[bodies.Drawing]) -> dict[str, Any] | None:
        data, owner = await read_body(asked), owner_of(asked)

        def submit() -> tuple[bodies.Drawing, Drawing]:
            body = bodies.read(kind, data)
            card = self._model(owner, model_of(body))
            request = read_order(body, card, self.inputs)
            size = body.batch_size
            parts = [request.part(first, size) for first in range(0, request.count, size)]
            user = asked.scope.get(USER_KEY)
            kept_for = f"user:{user}" if user else NOBODY
            keep = partial(self.context.library.save, owner=kept_for, job_id=token_hex(8))
            jobs = self.context.jobs
            return body, Drawing(jobs, request, card, owner, parts, keep if body.save_images else None)

        body, drawing = await to_thread.run_sync(submit)
        drawings = self.drawings.setdefault(owner, [])
        drawings.append(drawing)
        try:
            view = await until_over(drawing, asked)
            if view is None:
                return None  # which nobody reads
            return await to_thread.run_sync(_answer, body, drawing.request, drawing.finished(view))
        finally:
            drawing.leave()
            drawings.remove(drawing)
            if not drawings:
                self.drawings.pop(owner, None)


def _answer(body: bodies.Drawing, request: Any, drawn: list[Drawn]) -> dict[str, Any]:
    pictures = [one.request for one in drawn] or [request.for_image(0)]
    first, result = pictures[0], drawn[0].result if drawn else None
    subseeds = [-1 if one.variation_seed is None else one.variation_seed for one in pictures]
    infotexts = [
        write_infotext(one.request, one.result.model_name, one.result.model_id, OUR_VERSION) for one in drawn
    ]
    info = {
        "prompt": first.prompt,
        "all_prompts": [one.prompt for one in pictures],
        "negative_prompt": first.negative_prompt,
        "all_negative_prompts": [one.negative_prompt for one in pictures],
        "seed": first.seed,
        "all_seeds": [one.seed for one in pictures],
        "subseed": subseeds[0],
        "all_subseeds": subseeds,
        "subseed_strength": first.variation_strength,
        "width": first.width,
        "height": first.height,
        "sampler_name": first.sampler,
        "cfg_scale": first.guidance_scale,
        "steps": first.steps,
        "batch_size": body.batch_size,
        "sd_model_name": result.model_name if result else "",
        "sd_model_hash": result.model_id if result else "",
        "denoising_strength": first.image.strength if first.image else None,
        "extra_generation_params": {"Schedule type": first.schedule},
        "index_of_first_image": 0,
        "infotexts": infotexts,
        "styles": list(request.styles),
        "clip_skip": 1,
        "version": OUR_VERSION,
        "ignored": ignored(body),
    }
    images = [base64.b64encode(one.png()).decode() for one in drawn] if body.send_images else []
    parameters = json.loads(body.model_dump_json(exclude={"init_images", "mask"}))  # NaN as null
    return {"images": images, "parameters": parameters, "info": json.dumps(info)}


def _answering(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def answer(asked: Request) -> Response:
        try:
            return _json(200, await handler(asked))
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        except StudioError as error:
            return _refusal(error)

    return answer


async def _listed(answer: Callable[[], Any], asked: Request) -> Any:
    return await to_thread.run_sync(answer)


def _refusal(error: StudioError) -> Response:
    status = 422 if isinstance(error, RequestError | ModelError) else 503  # the disk is full, for one
    if isinstance(error, ApiError):
        status = error.status
    said = str(error)
    response = _json(status, {"error": type(error).__name__, "detail": said, "body": "", "errors": said})
    if status == 429:
        response.headers["retry-after"] = "2"
    return response


def _base64_png(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


def _json(status: int, values: object) -> Response:
    # In ASCII: half a surrogate pair, quoted in a refusal, has no UTF-8.
    return Response(json.dumps(values), status, media_type="application/json")
