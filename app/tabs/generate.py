"""The page's main tab: words in, pictures out. Its handlers submit jobs and look at them; they never draw."""

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr
from PIL import Image

from app import stage, text
from app.context import Context
from app.database import BROWSER
from app.job import Job, JobState, JobView
from app.library import Picture
from app.measured import measured
from app.tabs.form import RANDOM_SEED, Form
from app.tabs.image import ImageForm
from app.tabs.loras import LoraPicker
from app.waiting import line
from models.errors import RequestError, StudioError
from pipelines.request import GenerationRequest
from pipelines.samplers import SAMPLERS

CLICK_ON_ID = (
    "element.addEventListener('click', event => { const target = event.target.closest('[data-id]');"
    " if (target) trigger('select', {id: target.dataset.id}); });"
)
# In the browser, at once: a list that changes while it is open confuses Gradio's dropdown.
CHOICES = json.dumps({name: [[words, words] for words in row.schedules] for name, row in SAMPLERS.items()})
SCHEDULES_OF_SAMPLER = f"sampler => ({{__type__: 'update', value: 'Automatic', choices: {CHOICES}[sampler]}})"
POLITE = "element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite');"
# Fixed, or a restart would forget who drew what.
BROWSER_KEY, BROWSER_CIPHER = "latent-studio-owner", "latent-studio"
QUICK: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
Update = tuple[Any, ...]  # one value for each of the components that an event writes to


def owner_of(request: gr.Request | None, browser: str) -> str:
    """Who asks: the login name where there is one, else the secret that this browser keeps."""
    name = request.username if request is not None else None
    return f"user:{name}" if name else f"{BROWSER}{browser}"


class GenerateTab:
    """Builds the tab into the Blocks that are open, and holds its handlers."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.form, self.image = Form(context), ImageForm(context)
        self.loras = LoraPicker(context)
        examples = self.form.card.examples if self.form.card is not None else text.EXAMPLE_PROMPTS
        with gr.Row(elem_id="studio"):
            with gr.Column(elem_id="ask"):
                self.form.build_words()
                self.form.words.build_tokens()
                with gr.Row(elem_id="actions"):
                    self.generate = gr.Button(text.GENERATE, variant="primary", elem_id="generate", scale=3)
                    self.skip = gr.Button(text.SKIP, elem_id="skip", interactive=False, scale=1)
                    self.stop = gr.Button(text.STOP, elem_id="stop", interactive=False, scale=1)
                self.forever = gr.Checkbox(label=text.FOREVER, elem_id="forever")  # static/viewer.js answers
                self.examples = gr.HTML(
                    stage.chips(examples), apply_default_css=False, js_on_load=CLICK_ON_ID, elem_id="examples"
                )
            with gr.Column(elem_id="see"):
                self.stage = gr.HTML(
                    stage.empty_stage(), apply_default_css=False, js_on_load=CLICK_ON_ID, elem_id="stage"
                )
                with gr.Column(elem_id="chosen", visible=False) as self.chosen:
                    self.details = gr.HTML("", apply_default_css=False, elem_id="details")
                    with gr.Row(elem_id="chosen-actions"):
                        gr.Button(text.ENLARGE, size="sm", elem_id="enlarge")  # static/viewer.js answers
                        self.reuse = gr.Button(text.REUSE, size="sm", elem_id="reuse")
                        self.reuse_seed = gr.Button(text.REUSE_SEED, size="sm", elem_id="reuse-seed")
                        self.start_from = gr.Button(text.START_FROM, size="sm", elem_id="start-from")
                        self.look = gr.Button(text.INSIDE, size="sm", elem_id="look")
                self.compared = gr.ImageSlider(
                    label=text.BEFORE_AFTER,
                    type="pil",
                    format="png",
                    interactive=False,
                    visible=False,
                    buttons=[],
                    elem_id="before-after",
                )
                self.status = gr.HTML("", elem_id="status", js_on_load=POLITE)
                self.line = gr.HTML("", apply_default_css=False, js_on_load=CLICK_ON_ID, elem_id="line")
            with gr.Column(elem_id="settings"):
                self.form.build_negative()
                self.form.words.build_styles()
                self.form.build_settings()
                self.loras.build(self.form.model.value)
                self.image.build()
            with gr.Column(elem_id="history"):
                gr.HTML(f"<h2>{text.HISTORY}</h2>", apply_default_css=False)
                self.strip = gr.HTML(
                    stage.strip([], None), apply_default_css=False, js_on_load=CLICK_ON_ID, elem_id="strip"
                )
            self.measured = gr.HTML(
                self.measures(str(self.form.card.path) if self.form.card else ""),
                apply_default_css=False,
                elem_id="measured",
            )
        self.browser = gr.BrowserState("", storage_key=BROWSER_KEY, secret=BROWSER_CIPHER)
        self.selected = gr.State("")
        self.drawn_again = gr.State(0)
        self._seen = [
            self.stage,
            self.chosen,
            self.details,
            self.strip,
            self.selected,
            self.status,
            self.stop,
            self.skip,
            self.line,
        ]
        self.viewer: dict[str, Any] = {
            "show_progress": "hidden",
            "api_visibility": "private",
            "trigger_mode": "once",
            "concurrency_id": "viewers",
            "concurrency_limit": context.settings.viewers_at_once,
        }
        self._connect()

    def _connect(self) -> None:
        form, browser, chosen = self.form, self.browser, [self.browser, self.selected]
        submitted = self.generate.click(
            self.submit,
            [browser, *form.fields, *self.image.fields],
            [browser, self.stop, self.skip, self.line],
            trigger_mode="multiple",
            **QUICK,
        )
        submitted.success(self.follow, [browser], self._seen, **self.viewer)
        self.loras.connect(form.prompt, form.model, QUICK)
        self.stop.click(self.cancel, [browser], [self.stop, self.skip], **QUICK)
        self.skip.click(self.go_on, [browser], None, **QUICK)
        self.line.select(self.arrange, [browser, self.drawn_again], [self.line, self.drawn_again], **QUICK)
        self.drawn_again.change(self.follow, [browser], self._seen, **self.viewer)
        for pictures in (self.stage, self.strip):
            pictures.select(self.select, [browser], self._seen, **QUICK)
        self.reuse.click(self.reuse_settings, chosen, [*form.outputs, *self.image.fields], **QUICK)
        editor = [self.image.editor, self.image.accordion]
        self.start_from.click(self.start_from_picture, chosen, editor, **QUICK)
        self.selected.change(self.compare, chosen, [self.compared], **QUICK)
        self.reuse_seed.click(self.chosen_seed, chosen, [form.seed], **QUICK)
        self.examples.select(self.example, [form.model], [form.prompt], **QUICK)
        form.keep_seed.click(self.last_seed, [browser], [form.seed], **QUICK)
        size = [form.width, form.height]
        form.swap.click(form.swapped, [form.size, *size], [form.size, form.custom_size, *size], **QUICK)
        form.dice.click(lambda: RANDOM_SEED, None, [form.seed], **QUICK)
        form.sampler.input(None, [form.sampler], [form.schedule], js=SCHEDULES_OF_SAMPLER, **QUICK)
        form.size.input(form.sizes, [form.size, *size], [form.custom_size, *size], **QUICK)
        form.model.input(form.choose_model, [form.model], form.outputs, **QUICK)
        form.model.change(self.measures, [form.model], [self.measured], **QUICK)
        counted = [form.model, form.prompt, form.words.styles, form.seed, form.steps]
        for control in (form.prompt, form.words.styles, form.model):
            control.change(  # one at a time: what is typed meanwhile is counted when the answer is there
                form.words.count_tokens, counted, [form.words.tokens], trigger_mode="always_last", **QUICK
            )
        drawing = [form.steps, form.guidance, form.sampler, form.schedule]
        form.instant.input(form.choose_instant, [form.model, form.instant], drawing, **QUICK)

    def connect_load(self, page: gr.Blocks) -> None:
        """What a browser does that opens or reloads the page: find its pictures and its running job."""
        loaded = page.load(
            self.restore, [self.browser], [self.browser, *self._seen, *self.form.outputs], **QUICK
        )
        loaded.then(self.reattach, [self.browser], self._seen, **self.viewer)
        page.load(self.form.words.style_choices, None, [self.form.words.styles], **QUICK)
        page.load(self.measures, [self.form.model], [self.measured], **QUICK)

    def submit(self, browser: str, request: gr.Request, *values: Any) -> Update:
        """Check what is asked and put it in the queue; gr.Error says what is wrong."""
        fresh = browser or secrets.token_urlsafe(24)
        try:
            words = len(self.form.fields)
            asked, card = self.form.read(*values[:words])
            if values[words:]:
                asked = self.image.add(asked, card, *values[words:])
            self.context.jobs.submit(asked, owner_of(request, fresh), card.path)
        except StudioError as error:
            raise gr.Error(str(error), title=text.NOT_POSSIBLE, print_exception=False) from None
        busy = gr.update(interactive=True)
        return gr.skip() if browser else fresh, busy, busy, self._line(owner_of(request, fresh))

    def cancel(self, browser: str, request: gr.Request) -> Update:
        """Stop everything this owner runs or waits for; the viewer says so when the step is over."""
        self.context.jobs.cancel_all(owner_of(request, browser))
        return (gr.update(interactive=False),) * 2

    def go_on(self, browser: str, request: gr.Request) -> None:
        """Leave the pictures that are being drawn, and go on with the next ones."""
        owner = owner_of(request, browser)
        for job in self.context.jobs.active(owner)[:1]:
            self.context.jobs.skip(job.id, owner)

    def arrange(self, browser: str, drawn_again: int, request: gr.Request, event: gr.EventData) -> Update:
        """A click in the line of jobs: move or cancel one; draw again or forget one that was left undone."""
        owner, jobs = owner_of(request, browser), self.context.jobs
        action, _, job_id = str(event.id).partition(":")
        try:
            if action in ("up", "down"):
                jobs.move(job_id, owner, -1 if action == "up" else 1)
            elif action == "cancel":
                jobs.cancel(job_id, owner)
            elif action == "forget":
                jobs.rows.forget(job_id, owner)
            elif action == "again" and jobs.again(job_id, owner) is not None:
                drawn_again += 1
        except RequestError as error:
            raise gr.Error(str(error), title=text.NOT_POSSIBLE, print_exception=False) from None
        return self._line(owner), drawn_again

    def follow(self, browser: str, request: gr.Request) -> Iterator[Update]:
        """Show the jobs of this owner, one by one, until none is left; closing this touches no job."""
        owner, jobs = owner_of(request, browser), self.context.jobs
        shown: Job | None = None
        while True:
            active = jobs.active(owner)
            job = active[0] if active else jobs.latest(owner)
            if job is None or job is shown:
                if shown is None:
                    yield (gr.skip(),) * len(self._seen)  # a viewer that yields nothing would blank the page
                return
            shown = job
            yield from self._follow_one(job, owner)

    def reattach(self, browser: str, request: gr.Request) -> Iterator[Update]:
        """Follow what already runs for this owner; nothing, if nothing does."""
        if self.context.jobs.active(owner_of(request, browser)):
            yield from self.follow(browser, request)
        else:
            yield (gr.skip(),) * len(self._seen)

    def restore(self, browser: str, request: gr.Request) -> Update:
        """A page that was just opened: its owner, its pictures, and the settings of its last drawing."""
        fresh = browser or secrets.token_urlsafe(24)
        owner = owner_of(request, fresh)
        active = self.context.jobs.active(owner)
        form = [gr.skip()] * len(self.form.outputs)
        if active:
            form = self.form.show(active[0].request, active[0].model)
        else:
            for row in self.context.jobs.rows.newest(owner, 1):
                with suppress(RequestError):  # what an older or newer version could draw
                    last = replace(GenerationRequest.from_json(row["request"]), seed=None)
                    form = self.form.show(last, row["model"])
        pictures = self._newest(owner)
        seen = self._showing(owner, pictures[:1] if not active else [])
        return gr.skip() if browser else fresh, *seen, *form

    def look_again(self, browser: str, selected: str, request: gr.Request) -> str:
        """The strip as it is now: pictures may have been deleted on another tab."""
        return stage.strip(self._newest(owner_of(request, browser)), selected)

    def select(self, browser: str, request: gr.Request, event: gr.EventData) -> Update:
        """A click on a picture, on the stage or in the strip: show it with its settings."""
        owner = owner_of(request, browser)
        picture = self.context.library.find(str(event.id), owner)
        if picture is None or not picture.path.is_file():
            raise gr.Error(text.GONE, title=text.NOT_POSSIBLE, print_exception=False)
        showing = self._showing(owner, self.context.library.siblings(picture, owner), picture)
        # While something is drawn the stage belongs to it, and the details alone are shown.
        return (gr.skip(), *showing[1:]) if self.context.jobs.active(owner) else showing

    def reuse_settings(self, browser: str, selected: str, request: gr.Request) -> list[Any]:
        """Put the settings of the selected picture, its seed included, into the controls."""
        picture = self._selected(browser, selected, request)
        return self.form.show(picture.request, picture.model) + self.image.show(picture.request)

    def start_from_picture(self, browser: str, selected: str, request: gr.Request) -> Update:
        """Put the selected picture into the editor, and open it."""
        with Image.open(self._selected(browser, selected, request).path) as file:
            picture = file.convert("RGBA")
        return {"background": picture, "layers": [], "composite": None}, gr.update(open=True)

    def compare(self, browser: str, selected: str, request: gr.Request) -> dict[str, Any]:
        """The selected picture beside the one it was drawn from."""
        return self.image.before_and_after(self.context.library.find(selected, owner_of(request, browser)))

    def chosen_seed(self, browser: str, selected: str, request: gr.Request) -> int | None:
        """The seed of the selected picture."""
        return self._selected(browser, selected, request).request.seed

    def last_seed(self, browser: str, request: gr.Request) -> int | None:
        """The seed of the newest picture."""
        newest = self.context.library.newest(owner_of(request, browser), 1)
        if not newest:
            raise gr.Error(text.NO_LAST_SEED, title=text.NOT_POSSIBLE, print_exception=False)
        return newest[0].request.seed

    def example(self, model: str, event: gr.EventData) -> str:
        """The example prompt that was clicked."""
        card = self.context.model(model)
        examples = card.examples if card is not None else text.EXAMPLE_PROMPTS
        return examples[int(event.id) % len(examples)] if examples else ""

    def measures(self, model: str) -> str:
        """What was measured of the chosen model, as its folder says now."""
        card = self.context.model(model)
        return measured(card.path if card is not None else None)

    def _selected(self, browser: str, selected: str, request: gr.Request) -> Picture:
        picture = self.context.library.find(selected, owner_of(request, browser))
        if picture is None:
            raise gr.Error(text.GONE, title=text.NOT_POSSIBLE, print_exception=False)
        return picture

    def _follow_one(self, job: Job, owner: str) -> Iterator[Update]:
        jobs, event, state = self.context.jobs, None, None
        previews: dict[int, str] = {}
        waiting = ""
        for view in jobs.watch(job):
            if view.over:
                yield self._ending(view, previews, owner)
                self._complain(view, owner)
                return
            if view.event is not event:
                event = view.event
                previews |= stage.previews(view)
            words = text.STATUS_QUEUED if view.state is JobState.QUEUED else text.STATUS_STARTED
            status = escape(f"{words}: {view.request.prompt}") if view.state is not state else gr.skip()
            # The last picture's details go away once; one clicked on meanwhile keeps its own.
            chosen = gr.update(visible=False) if state is None else gr.skip()
            state = view.state
            drawn = stage.live_stage(view, previews, len(jobs.active(owner)) - 1)
            before, waiting = waiting, self._line(owner)
            shown = gr.skip() if waiting == before else waiting
            yield (drawn, chosen, gr.skip(), gr.skip(), gr.skip(), status, gr.skip(), gr.skip(), shown)

    def _ending(self, view: JobView, previews: dict[int, str], owner: str) -> Update:
        found = [self.context.library.find(path.stem, owner) for path in view.paths]
        pictures = [picture for picture in found if picture is not None]
        if pictures:
            done = view.state is JobState.DONE
            words = text.done(len(pictures), view.seconds) if done else text.stopped(len(pictures))
            return self._showing(owner, pictures, words=words)
        words = text.STATUS_STOPPED if view.state is JobState.CANCELLED else view.error or text.STATUS_FAILED
        more = gr.update(interactive=bool(self.context.jobs.active(owner)))
        ended = stage.stopped_stage(view, previews)
        hidden = gr.update(visible=False)
        return ended, hidden, "", gr.skip(), "", escape(words), more, more, self._line(owner)

    def _complain(self, view: JobView, owner: str) -> None:
        if view.state is JobState.FAILED:
            message = view.error or text.STATUS_FAILED
            if not self.context.jobs.active(owner):
                raise gr.Error(message, title=text.STATUS_FAILED, print_exception=False)
            gr.Warning(message, title=text.STATUS_FAILED)  # an error would end the view of the jobs that wait

    def _showing(
        self, owner: str, pictures: Sequence[Picture], chosen: Picture | None = None, words: str = ""
    ) -> Update:
        """The updates of everything seen: these pictures on the stage, one of them chosen."""
        chosen = chosen or (pictures[0] if pictures else None)
        chosen_id = chosen.id if chosen is not None else ""
        busy = gr.update(interactive=bool(self.context.jobs.active(owner)))
        shown = stage.finished_stage(pictures, chosen_id, words) if pictures else stage.empty_stage()
        return (
            shown,
            gr.update(visible=chosen is not None),
            stage.details(chosen),
            stage.strip(self._newest(owner), chosen_id),
            chosen_id,
            escape(words),
            busy,
            busy,
            self._line(owner),
        )

    def _line(self, owner: str) -> str:
        jobs = self.context.jobs
        return line([jobs.view(job) for job in jobs.active(owner)], jobs.rows.interrupted(owner))

    def _newest(self, owner: str) -> list[Picture]:
        return self.context.library.newest(owner, self.context.settings.pictures_shown)
