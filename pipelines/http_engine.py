"""HttpEngine draws with the model of another server, over OpenAI's images API. No torch."""

import asyncio
import base64
import binascii
import io
import json
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from models.errors import RequestError, StudioError
from pipelines.inputs import InputStore
from pipelines.pictures import open_picture
from pipelines.prompt.expand import PromptFiles, expand
from pipelines.remote_server import (
    EVERYTHING,
    GENERATIONS,
    MAX_ANSWER_BYTES,
    PICTURES_AT_ONCE,
    RemoteServer,
    read_answer,
)
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult, StepEvent

if TYPE_CHECKING:
    from aiohttp import ClientResponse

PAUSE_SECONDS = 0.25  # how soon a closed generator is noticed while nothing comes
# What OpenAI's form has no word for, by the fields that ask for it with a value other than this.
ONLY_OURS: Mapping[str, tuple[object, str]] = {
    "image": (None, "pictures to start from"),
    "second_pass": (None, "second passes"),
    "controls": ((), "ControlNets"),
    "instant": (False, "students"),
    "tiling": (False, "seamless pictures"),
    "variation_strength": (0.0, "variations"),
    "noise": ("cpu", "other noise sources"),
    "guidance_start": (0.0, "guidance intervals"),
    "guidance_end": (1.0, "guidance intervals"),
}


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What one request brought."""

    images: list[Image.Image]
    engine: str = ""
    model_id: str = ""
    note: str = ""


class HttpEngine:
    """Draws with one model of another server: another Latent Studio, or any server of OpenAI's images API.

    The former shows each step (`shows_steps`) and draws every request; the latter gets words, size, seed,
    steps and guidance, and tells nothing before the picture. `files` and `inputs` are those of this machine:
    styles and wildcards become words here, and the pictures that requests start from are sent along; LoRAs
    are the other server's. For several threads at once.
    """

    def __init__(
        self,
        server: RemoteServer,
        model: str,
        *,
        shows_steps: bool,
        files: PromptFiles | None = None,
        inputs: InputStore | None = None,
    ) -> None:
        self.server, self.model_name, self.shows_steps = server, model, shows_steps
        self._files, self._inputs = files, inputs

    def why_not(self, request: GenerationRequest) -> str | None:
        """A sentence saying why this cannot be asked of that server, or None if it can."""
        try:
            if self._files is not None:
                expand(request.resolve(), self._files)
            if self.shows_steps:
                self._pictures(request)
        except RequestError as error:
            return str(error)
        if not self.shows_steps:
            asked = (words for name, (no, words) in ONLY_OURS.items() if getattr(request, name) != no)
            if words := next(asked, None):
                return f"{self.server.name} draws from words alone and knows no {words}; leave that out."
        return None

    def batch_images(self, request: GenerationRequest) -> int:
        """How many pictures are asked for at a time."""
        return min(request.batch_size or PICTURES_AT_ONCE, PICTURES_AT_ONCE) if self.shows_steps else 1

    def generate(
        self, request: GenerationRequest
    ) -> Generator[StepEvent | GenerationResult | None, None, None]:
        """Yield a StepEvent for each step that is told of, None while nothing is, then the GenerationResult.

        Closing the iterator closes the connection, by which the other server stops. Raises RequestError for
        what is refused, StudioError where the other server cannot be reached, fails or falls silent.
        """
        start = time.perf_counter()
        request = request.resolve()
        if reason := self.why_not(request):
            raise RequestError(reason)
        pictures = tuple(request.for_image(index) for index in range(request.count))
        if self._files is not None:
            pictures = expand(request, self._files)
        # Where the words differ from picture to picture, each is asked for by its own.
        together = self.shows_steps and all(picture.template is None for picture in pictures)
        images: list[Image.Image] = []
        drawn = _Drawn([])
        for part in [request] if together else pictures:
            first = len(images)
            ask = self._stream if self.shows_steps else self._whole
            if self._files is not None:  # which are words by now
                part = replace(part, styles=())
            with closing(_stepped(ask(part))) as events:
                for event in events:
                    if isinstance(event, _Drawn):
                        drawn = event
                        images += event.images
                    elif event is None:
                        yield None
                    else:
                        yield replace(event, image_index=first + event.image_index)
        yield GenerationResult(
            images=images,
            request=request,
            model_name=self.model_name,
            model_id=drawn.model_id,
            engine=f"{drawn.engine or 'an engine'} at {self.server.name}",
            note=drawn.note,
            seconds=time.perf_counter() - start,
            pictures=pictures,
        )

    async def _stream(self, request: GenerationRequest) -> AsyncGenerator[StepEvent | _Drawn]:
        """Ask another Latent Studio."""
        whole = {"request": request.to_dict(), "pictures": self._pictures(request)}
        body = {"model": self.model_name, "stream": True, EVERYTHING: whole}
        images: list[Image.Image] = []
        previews: list[Image.Image] = []
        async with self.server.opened("POST", GENERATIONS, body) as response:
            async for data in _events(response):
                with self.server.understanding():
                    event = json.loads(data)
                    facts = event.get(EVERYTHING)
                    if event["type"] == "error":
                        wrong = event["error"]["type"] == "invalid_request_error"
                        raise (RequestError if wrong else StudioError)(
                            f"{self.server.name}: {str(event['error']['message'])[:300]}"
                        )
                    if event["type"] == "image_generation.partial_image":
                        step = _step(facts, request.count)
                        if event["b64_json"]:
                            previews.append(_picture(event["b64_json"]))
                        if facts["image"] < step.image_index + step.images - 1:
                            continue  # one of the same step
                        step, previews = replace(step, previews=tuple(previews)), []
                    elif event["type"] == "image_generation.completed":
                        images.append(_picture(event["b64_json"]))
                        if len(images) < request.count:
                            continue
                        said = facts["engine"], facts["model_id"], facts.get("note", "")
                        yield _Drawn(images, *map(_words, said))
                        return
                    else:
                        continue
                yield step
        raise StudioError(f"{self.server.name} ended before the picture was there; try again.")

    async def _whole(self, request: GenerationRequest) -> AsyncGenerator[StepEvent | _Drawn]:
        """Ask a server that knows only OpenAI's form, with the names that vLLM-Omni and SGLang add to it."""
        body = {
            "model": self.model_name,
            "prompt": request.prompt,
            "n": 1,
            "size": f"{request.width}x{request.height}",
            "response_format": "b64_json",
            "seed": request.seed,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
        }
        if request.negative_prompt:
            body["negative_prompt"] = request.negative_prompt
        async with self.server.opened("POST", GENERATIONS, body) as response:
            answer = await read_answer(response)
        with self.server.understanding():
            image = _picture(json.loads(answer)["data"][0]["b64_json"])
        yield _Drawn([image])

    def _pictures(self, request: GenerationRequest) -> dict[str, str]:
        """The pictures that a request is drawn with, as they are sent."""
        if not request.input_names:
            return {}
        if self._inputs is None:
            raise RequestError("This engine has no folder of pictures to start from; draw from words alone.")
        found = {}
        for name in request.input_names:
            self._inputs.open(name)
            found[name] = base64.b64encode(self._inputs.path(name).read_bytes()).decode()
        return found


def _stepped(
    events: AsyncGenerator[StepEvent | _Drawn],
) -> Generator[StepEvent | _Drawn | None, None, None]:
    """The items of an asynchronous generator, with None while there is none; closing it closes that one."""

    async def following() -> StepEvent | _Drawn | None:
        return await anext(events, None)

    with asyncio.Runner() as runner:  # whose end cancels what is under way and closes what is open
        loop = runner.get_loop()
        while True:
            waited_for = loop.create_task(following())
            while not waited_for.done():
                loop.run_until_complete(asyncio.wait({waited_for}, timeout=PAUSE_SECONDS))
                if not waited_for.done():
                    yield None
            item = waited_for.result()
            if item is None:
                return
            yield item


async def _events(response: "ClientResponse") -> AsyncIterator[bytes]:
    """The data of each server-sent event."""
    rest = bytearray()
    async for chunk in response.content.iter_any():
        rest += chunk
        if b"\n" in chunk:
            *lines, rest = rest.split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    yield bytes(line[5:])
        if len(rest) > MAX_ANSWER_BYTES:
            raise StudioError(f"The answer of {response.url.host} is larger than any picture.")


def _step(facts: Mapping[str, Any], count: int) -> StepEvent:
    first, images, step, total = (int(facts[name]) for name in ("first", "images", "step", "total"))
    sigma = float(facts["sigma"])
    sound = 0 <= first < first + images <= count and 1 <= step <= total and math.isfinite(sigma)
    if not sound or not first <= int(facts["image"]) < first + images:
        raise ValueError(f"no step: {facts}")
    return StepEvent(
        image_index=first, images=images, step=step, total=total, sigma=sigma, latents=None, denoised=None
    )


def _picture(encoded: str) -> Image.Image:
    try:
        return open_picture(io.BytesIO(base64.b64decode(encoded, validate=True)))
    except binascii.Error as error:
        raise ValueError("no base64") from error


def _words(value: object) -> str:
    """What another server calls something, as it may stand in a PNG."""
    return value[:200] if isinstance(value, str) and value.isprintable() else ""
