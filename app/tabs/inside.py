"""The tab that looks inside a drawing. Its handlers submit work to the one worker and show what it found."""

import dataclasses
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from app import inside, text
from app.context import Context
from app.job import JobState, JobView
from app.tabs.events import BROWSER_CIPHER, POLITE, QUICK, Update, owner_of, refusal, viewers
from app.tabs.generate import GenerateTab
from app.tabs.lab import Lab
from app.tabs.looks import local, run
from models.errors import RequestError
from pipelines.engine import Engine
from pipelines.request import MAX_GUIDANCE_SCALE, MAX_SEED, GenerationRequest
from pipelines.samplers import SAMPLERS, sampler_names

if TYPE_CHECKING:  # torch takes seconds to import, and the page is up before anything is looked at
    from pipelines.inside.recording import Recording

MIN_FRAMES, MAX_FRAMES = 3, 24
LOOKED_KEY = "latent-studio-looked"  # in the browser, so that a reloaded page finds its look again


@dataclasses.dataclass(frozen=True, slots=True)
class Looked:
    """What was found, and the picture that was looked at, where there was one."""

    recording: "Recording"
    original: Image.Image | None


class InsideTab:
    """Builds the tab into the Blocks that are open, and holds its handlers.

    What was looked at is the outcome of a job, found again by the job's id and by nobody but its owner.
    """

    def __init__(self, context: Context, generate: GenerateTab, tabs: gr.Tabs) -> None:
        self.context, self.form, self.tabs = context, generate.form, tabs
        with gr.Column(elem_id="inside"):
            self.about = gr.HTML(f'<p class="ls-quiet">{text.INSIDE_HINT}</p>', apply_default_css=False)
            with gr.Row(elem_id="inside-ask"):
                self.look_form = gr.Button(text.INSIDE_FORM, elem_id="look-form")
                self.stop = gr.Button(text.STOP, elem_id="inside-stop")
            self.progress = gr.HTML("", apply_default_css=False, js_on_load=POLITE, elem_id="inside-progress")
            with gr.Tabs(elem_id="inside-tabs"):
                with gr.Tab(text.INSIDE_WORDS, id="words"):
                    self.words = gr.HTML("", apply_default_css=False, elem_id="inside-words")
                with gr.Tab(text.INSIDE_STEPS_TAB, id="steps"):
                    self._build_steps()
                with gr.Tab(text.INSIDE_LATENT, id="latent"):
                    self._build_latent()
                with gr.Tab(text.INSIDE_LAB, id="lab"):
                    Lab(context, generate.browser)
        self.looked = gr.BrowserState("", storage_key=LOOKED_KEY, secret=BROWSER_CIPHER)
        self._connect(generate)

    def _build_steps(self) -> None:
        with gr.Column(visible=False) as self.steps:
            self.step = gr.Slider(1, 2, 1, step=1, label=text.STEP_NUMBER, buttons=[], elem_id="inside-step")
            self.step_view = gr.HTML("", apply_default_css=False, elem_id="inside-pictures")
            self.decode = gr.Button(text.DECODE, size="sm", elem_classes="ls-do", elem_id="decode")
            self.decoded = gr.HTML("", apply_default_css=False, elem_id="decoded")
            gr.HTML(f'<p class="ls-quiet">{text.BRANCH_HINT}</p>', apply_default_css=False)
            self.branch_prompt = gr.Textbox(label=text.PROMPT, lines=1, elem_id="branch-prompt")
            with gr.Row():
                self.branch_guidance = gr.Slider(
                    0, MAX_GUIDANCE_SCALE, 1, step=0.1, label=text.GUIDANCE, buttons=[], min_width=160
                )
                self.branch_sampler = gr.Dropdown(sampler_names(), label=text.SAMPLER, min_width=120)
            self.branch = gr.Button(text.BRANCH, elem_classes="ls-do", elem_id="branch")
            self.branch_view = gr.HTML("", apply_default_css=False, elem_id="branched")

    def _build_latent(self) -> None:
        with gr.Column(visible=False) as self.latent:
            self.channels = gr.HTML("", apply_default_css=False, elem_id="channels")
            gr.HTML(f'<p class="ls-quiet"><b>{text.WALK}.</b> {text.WALK_HINT}</p>', apply_default_css=False)
            self.walk_prompt = gr.Textbox(label=text.WALK_PROMPT, lines=1, elem_id="walk-prompt")
            with gr.Row():
                self.walk_seed = gr.Number(
                    0, label=text.WALK_SEED, precision=0, minimum=0, maximum=MAX_SEED, min_width=120,
                    elem_id="walk-seed",
                )  # fmt: skip
                self.walk_frames = gr.Slider(
                    MIN_FRAMES, MAX_FRAMES, 7, step=1, label=text.WALK_FRAMES, buttons=[], min_width=160,
                    elem_id="walk-frames",
                )  # fmt: skip
            self.walk = gr.Button(text.WALK_START, elem_classes="ls-do", elem_id="walk")
            self.walked = gr.HTML("", apply_default_css=False, elem_id="walked")

    def _connect(self, generate: GenerateTab) -> None:
        viewer = viewers(self.context)
        browser, looked = generate.browser, [generate.browser, self.looked]
        seen = self.seen = [
            self.looked, self.progress, self.about, self.words, self.steps, self.latent, self.step,
            self.step_view, self.decoded, self.branch_prompt, self.branch_guidance, self.branch_sampler,
            self.branch_view, self.channels, self.walk_prompt, self.walk_seed, self.walked,
        ]  # fmt: skip
        opened = generate.chosen.look.click(lambda: gr.Tabs(selected="inside"), None, [self.tabs], **QUICK)
        opened.then(self.look_at, [browser, generate.chosen.selected], seen, **viewer)
        self.look_form.click(self.look_ahead, [browser, *self.form.fields.values()], seen, **viewer)
        self.stop.click(self.cancel, [browser], None, **QUICK)
        stepped = [self.step_view, self.channels, self.decoded]
        self.step.change(self.choose_step, [*looked, self.step], stepped, trigger_mode="always_last", **QUICK)
        self.decode.click(self.decode_step, [*looked, self.step], [self.progress, self.decoded], **viewer)
        asked = [self.step, self.branch_prompt, self.branch_guidance, self.branch_sampler]
        self.branch.click(self.go_on, [*looked, *asked], [self.progress, self.branch_view], **viewer)
        asked = [self.walk_prompt, self.walk_seed, self.walk_frames]
        self.walk.click(self.walk_to, [*looked, *asked], [self.progress, self.walked], **viewer)

    def look_at(self, browser: str, selected: str, request: gr.Request) -> Iterator[Update]:
        """Draw the picture chosen on the first tab again, and show everything of it."""
        owner = owner_of(request, browser)
        picture = self.context.library.find(selected, owner)
        if picture is None or not picture.path.is_file():
            raise refusal(text.GONE)
        card = self.context.model(picture.model)
        if card is None:
            raise refusal(text.NO_MODEL)
        with Image.open(picture.path) as original:
            original.load()
        yield from self._look(owner, picture.request, card.path, original)

    def look_ahead(self, browser: str, request: gr.Request, *values: Any) -> Iterator[Update]:
        """Draw the first picture that the form asks for, and show everything of it."""
        try:
            asked, card = self.form.read(dict(zip(self.form.fields, values, strict=True)))
        except RequestError as error:
            raise refusal(error) from None
        yield from self._look(owner_of(request, browser), asked.resolve(), card.path, None)

    def find_again(self, browser: str, looked: str, request: gr.Request) -> Iterator[Update]:
        """What a reloaded page was looking at, while it is in memory."""
        job = self.context.jobs.find(looked, owner_of(request, browser))
        if job is None or (job.state is JobState.DONE and not isinstance(job.outcome, Looked)):
            yield (gr.skip(),) * len(self.seen)
        else:
            yield from map(self._seen_of, self.context.jobs.watch(job))

    def cancel(self, browser: str, request: gr.Request) -> None:
        """Stop this owner's looks."""
        owner = owner_of(request, browser)
        for job in self.context.jobs.active(owner, looks=True):
            self.context.jobs.cancel(job.id, owner)

    def choose_step(self, browser: str, looked: str, step: int, request: gr.Request) -> Update:
        """The small pictures of another step."""
        recording = self._recording(looked, owner_of(request, browser))
        return inside.step_view(recording, step), inside.channels_view(recording, step), ""

    def decode_step(self, browser: str, looked: str, step: int, request: gr.Request) -> Iterator[Update]:
        """What the decoder makes of a step: of the noisy latents, and of the clean ones predicted."""
        owner = owner_of(request, browser)
        recording = self._recording(looked, owner)
        event = recording.event(step)

        def work(engine: Engine) -> Iterator[object]:
            from pipelines.decoding import decode_images

            autoencoder, device = local(engine).model.autoencoder, local(engine).device
            assert event.latents is not None
            assert event.denoised is not None
            yield [decode_images(autoencoder, one.to(device))[0] for one in (event.latents, event.denoised)]

        for view in run(self.context, owner, recording.request, self._model(looked, owner), work):
            if view.state is JobState.DONE:
                pictures: list[Image.Image] = view.outcome  # type: ignore[assignment]
                words = (text.STEP_NOISY, text.STEP_CLEAN)
                yield "", inside.row(list(zip(pictures, words, strict=True)))
            else:
                yield inside.progress(view), gr.skip()

    def go_on(
        self,
        browser: str,
        looked: str,
        step: int,
        prompt: str,
        guidance: float,
        sampler: str,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Branch: draw on from a step with other words, guidance or another sampler."""
        owner = owner_of(request, browser)
        recording = self._recording(looked, owner)
        try:
            asked = _changed(recording.request, prompt=prompt, guidance_scale=guidance, sampler=sampler)
        except RequestError as error:
            raise refusal(error) from None
        event = recording.event(step)
        earlier = [one for one in recording.events if one.step < event.step]

        def work(engine: Engine) -> Iterator[object]:
            from pipelines.inside.recording import record
            from pipelines.state import State

            yield from record(local(engine), asked, State.before(event, earlier))

        for view in run(self.context, owner, asked, self._model(looked, owner), work):
            if view.state is JobState.DONE:
                branch: Recording = view.outcome  # type: ignore[assignment]
                after = text.BRANCH_AFTER.format(step=branch.events[0].step)
                yield "", inside.row([(recording.image, text.BRANCH_BEFORE), (branch.image, after)])
            else:
                yield inside.progress(view), gr.skip()

    def walk_to(
        self, browser: str, looked: str, prompt: str, seed: float | None, frames: int, request: gr.Request
    ) -> Iterator[Update]:
        """Draw the pictures between this one and that of other words and another seed."""
        owner = owner_of(request, browser)
        start = self._recording(looked, owner).request
        frames = min(max(int(frames), MIN_FRAMES), MAX_FRAMES)
        try:
            end = _changed(start, prompt=prompt, seed=start.seed if seed is None else int(seed))
            counted = dataclasses.replace(start, seed=0, count=frames)  # what the progress is a part of
        except RequestError as error:
            raise refusal(error) from None

        def work(engine: Engine) -> Iterator[object]:
            from pipelines.inside.walk import walk

            yield from walk(local(engine), start, end, frames)

        for view in run(self.context, owner, counted, self._model(looked, owner), work):
            if view.state is JobState.DONE:
                yield "", inside.walk_view(view.outcome)  # type: ignore[arg-type]
            else:
                yield inside.progress(view), gr.skip()

    def _look(
        self, owner: str, asked: GenerationRequest, model: Path, original: Image.Image | None
    ) -> Iterator[Update]:
        asked = asked.for_image(0)

        def work(engine: Engine) -> Iterator[object]:
            from pipelines.inside.recording import Recording, record

            for item in record(local(engine), asked):
                yield Looked(item, original) if isinstance(item, Recording) else item

        yield from map(self._seen_of, run(self.context, owner, asked, model, work))

    def _seen_of(self, view: JobView) -> Update:
        """What a look under way, or one that is over, fills the tab with."""
        about = f'<p class="ls-prompt">{escape(text.INSIDE_OF.format(prompt=view.request.prompt))}</p>'
        if view.state is not JobState.DONE:
            hidden = gr.update(visible=False)
            return view.id, inside.progress(view), about, "", hidden, hidden, *(gr.skip(),) * 11
        looked: Looked = view.outcome  # type: ignore[assignment]
        recording = looked.recording
        request, last = recording.request, recording.events[-1].step
        return (
            view.id,
            "",
            about,
            inside.words_view(recording, looked.original),
            gr.update(visible=True),
            gr.update(visible=True),
            gr.update(minimum=1, maximum=max(2, last), value=last),
            inside.step_view(recording, last),
            "",
            request.prompt,
            request.guidance_scale,
            self.form.samplers(self.context.model(view.model), request.sampler),
            "",
            inside.channels_view(recording, last),
            request.prompt,
            (request.seed + 1) % (MAX_SEED + 1) if request.seed is not None else 0,
            "",
        )

    def _recording(self, looked: str, owner: str) -> "Recording":
        job = self.context.jobs.find(looked, owner)
        if job is None or job.outcome is None:
            raise refusal(text.INSIDE_GONE)
        assert isinstance(job.outcome, Looked)
        return job.outcome.recording

    def _model(self, looked: str, owner: str) -> Path:
        job = self.context.jobs.find(looked, owner)
        assert job is not None
        return job.model


def _changed(request: GenerationRequest, **changes: Any) -> GenerationRequest:
    """A request with other values; a sampler that does not take its schedule gets Automatic."""
    if changes.get("prompt", request.prompt) != request.prompt:
        changes |= {"template": None, "negative_template": None, "styles": ()}
    sampler = changes.get("sampler", request.sampler)
    if sampler in SAMPLERS and request.schedule not in SAMPLERS[sampler].schedules:
        changes["schedule"] = "Automatic"
    return dataclasses.replace(request, **changes)
