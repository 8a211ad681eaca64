"""The one endpoint of the page that gradio_client calls by name, `/generate`; others are the page's own."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.events import api
from gradio.utils import get_upload_folder

from app.context import Context
from app.job import JobState, JobView
from app.picture import NOBODY
from app.shelf import put, shelf
from app.tabs.events import refusal
from models.errors import RequestError
from pipelines.request import GenerationRequest

NAME = "generate"


def offer_generate(context: Context) -> None:
    """Add the endpoint to the page that is being built."""

    def generate(
        prompt: str,
        negative_prompt: str | None = None,
        model: str | None = None,
        width: int | None = None,
        height: int | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        sampler: str | None = None,
        schedule: str | None = None,
        seed: int | None = None,
        count: int | None = None,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> Iterator[dict[str, Any]]:
        """Draw pictures, which stay in the history; what is None is as the model draws best.

        Each answer, of which the last one is the result, has `state`, `progress` (0 to 1), `seed`, and
        `pictures`, the PNG files that are finished.
        """
        cards = list(context.models)
        card = next((one for one in cards if model in (None, one.name)), None)
        if card is None:
            there = ", ".join(one.name for one in cards) or "none"
            raise refusal(f"There is no model of this name; there is {there}.")
        options = {
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "width": width,
            "height": height,
            "steps": steps,
            "guidance_scale": guidance_scale,
            "sampler": sampler,
            "schedule": schedule,
            "seed": seed,
            "count": count,
        }
        owner = f"user:{request.username}" if request.username else NOBODY
        try:
            asked = GenerationRequest.from_options(options, card.defaults)
            job = context.jobs.submit(asked, owner, card.path)
        except RequestError as error:
            raise refusal(error) from None
        try:
            for view in context.jobs.watch(job):
                yield _answer(view)
        finally:
            context.jobs.cancel(job.id, owner)  # does nothing to one that is over: the client left before
        if view.state is not JobState.DONE:
            raise refusal(view.error or "The drawing was stopped.")

    api(
        generate,
        api_name=NAME,
        concurrency_id="viewers",
        concurrency_limit=context.settings.viewers_at_once,
    )


def _answer(view: JobView) -> dict[str, Any]:
    served = shelf(get_upload_folder())
    return {
        "state": view.state.value,
        "progress": view.fraction,
        "seed": view.request.seed,
        "pictures": [
            {"path": str(put(path, served)), "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}
            for path in view.paths
        ],
    }
