"""The page's main tab: words in, pictures out. Its handlers submit jobs and look at them; they never draw."""

import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from app import stage, text
from app.context import Context
from app.job import WAITING_OR_RUNNING, Job, JobState
from app.measured import measured
from app.tabs.chosen import Chosen
from app.tabs.defaults import Defaults
from app.tabs.embeddings import EmbeddingPicker
from app.tabs.events import BROWSER_CIPHER, CLICK_ON_ID, POLITE, QUICK, Updates, owner_of, refusal
from app.tabs.finer import RANDOM_SEED
from app.tabs.form import Form
from app.tabs.image import ImageForm
from app.tabs.loras import LoraPicker
from app.tabs.viewer import Viewer
from models.errors import RequestError, StudioError
from pipelines.request import GenerationRequest
from pipelines.samplers import SAMPLERS

# In the browser, at once: a list that changes while it is open confuses Gradio's dropdown.
CHOICES = json.dumps({name: [[words, words] for words in row.schedules] for name, row in SAMPLERS.items()})
SCHEDULES_OF_SAMPLER = f"sampler => ({{__type__: 'update', value: 'Automatic', choices: {CHOICES}[sampler]}})"
CHANGED = "() => { document.dispatchEvent(new Event('ls-changed')); }"
LIVE_STATES = (*WAITING_OR_RUNNING, JobState.DONE)
BROWSER_KEY = "latent-studio-owner"


class GenerateTab:
    """Builds the tab into the Blocks that are open, and holds its handlers.

    `fields` are the controls of both forms by name, in the order in which `submit` gets their values.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.browser = gr.BrowserState("", storage_key=BROWSER_KEY, secret=BROWSER_CIPHER)
        self.form, self.image = Form(context), ImageForm(context)
        self.chosen = Chosen(context, self.form, self.image, self.browser)
        self.viewer = Viewer(context, self.chosen)
        self.defaults = Defaults(context, self.form, self.browser)
        self.loras, self.embeddings = LoraPicker(context), EmbeddingPicker(context)
        examples = self.form.card.examples if self.form.card is not None else text.EXAMPLE_PROMPTS
        with gr.Row(elem_id="studio"):
            with gr.Column(elem_id="ask"):
                self.form.build_words()
                self.form.words.build_tokens()
                with gr.Row(elem_id="actions"):
                    self.generate = gr.Button(text.GENERATE, variant="primary", elem_id="generate", scale=3)
                    self.viewer.build_buttons()
                with gr.Row(elem_id="modes"):
                    gr.Checkbox(label=text.LIVE, elem_id="live", min_width=140)  # static/live.js answers
                    # static/viewer.js answers
                    gr.Checkbox(label=text.FOREVER, elem_id="forever", min_width=140)
                self.live_words = gr.HTML(
                    "", apply_default_css=False, js_on_load=POLITE, elem_id="live-words"
                )
                self.draw_live = gr.Button(visible="hidden", elem_id="draw-live")
                self.examples = gr.HTML(
                    stage.chips(examples), apply_default_css=False, js_on_load=CLICK_ON_ID, elem_id="examples"
                )
            with gr.Column(elem_id="see"):
                self.viewer.build_stage()
            with gr.Column(elem_id="settings"):
                self.form.build_settings()
                self.loras.build(self.form.model.value)
                self.embeddings.build()
                self.image.build()
                self.defaults.build()
            with gr.Column(elem_id="history"):
                gr.HTML(f"<h2>{text.HISTORY}</h2>", apply_default_css=False)
                self.viewer.build_strip()
            self.measured = gr.HTML(
                self.measures(str(self.form.card.path) if self.form.card else ""),
                apply_default_css=False,
                elem_id="measured",
            )
        self.live_job = gr.State("")
        self.fields = self.form.fields | self.image.fields
        self.viewer.connect()
        self.chosen.connect()
        self.defaults.connect()
        self._connect()

    def _connect(self) -> None:
        form, browser, viewer = self.form, self.browser, self.viewer
        asked = [browser, viewer.asked, viewer.stop, viewer.skip, viewer.line]
        values: list[Any] = list(self.fields.values())
        self.generate.click(self.submit, [browser, *values], asked, trigger_mode="multiple", **QUICK)
        # One request at a time is under way; of what changes meanwhile, the last state is asked for next.
        self.draw_live.click(
            self.submit_live,
            [browser, self.live_job, *values],
            [*asked, self.live_job, self.live_words, form.seed],
            trigger_mode="always_last",
            **QUICK,
        )
        gr.on([control.change for control in values], None, None, None, js=CHANGED, **QUICK)
        self.examples.select(self.example, [form.model], [form.prompt], **QUICK)
        form.keep_seed.click(self.last_seed, [browser], [form.seed], **QUICK)
        self.loras.connect(form.prompt, form.model, QUICK)
        self.embeddings.connect(form.prompt, form.model, QUICK)
        self.image.control.connect([form.size, *(form.fields[name] for name in ("width", "height"))])
        form.dice.click(lambda: RANDOM_SEED, None, [form.seed], **QUICK)
        size = [form.fields["width"], form.fields["height"]]
        form.swap.click(form.swapped, [form.size, *size], [form.size, form.custom_size, *size], **QUICK)
        form.size.input(form.sizes, [form.size, *size], [form.custom_size, *size], **QUICK)
        form.sampler.input(None, [form.sampler], [form.schedule], js=SCHEDULES_OF_SAMPLER, **QUICK)
        form.model.change(self.measures, [form.model], [self.measured], **QUICK)
        form.instant.input(form.choose_instant, [form.model, form.instant], form.outputs, **QUICK)
        counted = [form.model, form.prompt, form.words.styles, form.seed, form.steps]
        for control in (form.prompt, form.words.styles, form.model):
            control.change(  # one at a time: what is typed meanwhile is counted when the answer is there
                form.words.count_tokens, counted, [form.words.tokens], trigger_mode="always_last", **QUICK
            )

    def connect_load(self, page: gr.Blocks) -> None:
        """What a browser does that opens or reloads the page: find its pictures and its running job."""
        everything = [self.browser, self.viewer.asked, *self.viewer.outputs, *self.form.outputs]
        page.load(self.restore, [self.browser], everything, **QUICK)
        page.load(self.form.words.style_choices, None, [self.form.words.styles], **QUICK)
        loras = [self.loras.row, self.loras.name]  # what was taught since the page was built
        page.load(self.loras.refresh, [self.form.model], loras, **QUICK)
        page.load(self.embeddings.refresh, None, [self.embeddings.row, self.embeddings.name], **QUICK)
        control = self.image.control
        page.load(control.refresh, None, [control.none, control.some, control.net], **QUICK)
        page.load(self.measures, [self.form.model], [self.measured], **QUICK)

    def submit(self, browser: str, request: gr.Request, *values: Any) -> Updates:
        """Check what is asked and put it in the queue; gr.Error says what is wrong."""
        fresh = browser or secrets.token_urlsafe(24)
        owner = owner_of(request, fresh)
        try:
            job = self.context.jobs.submit(*self._read(owner, values))
        except StudioError as error:
            raise refusal(error) from None
        return {self.browser: gr.skip() if browser else fresh, **self._submitted(job)}

    def submit_live(self, browser: str, before: str, request: gr.Request, *values: Any) -> Updates:
        """Draw what stands in the form now in the place of the live picture `before`, all with one seed."""
        fresh = browser or secrets.token_urlsafe(24)
        owner, jobs = owner_of(request, fresh), self.context.jobs
        try:
            typed, owner, model = self._read(owner, values)
            asked = typed.resolve()
            old = jobs.find(before, owner)
            # The seed that was drawn is a change of the form, too.
            if old is not None and (old.request, old.model) == (asked, model) and old.state in LIVE_STATES:
                return {self.live_words: ""}
            job = jobs.submit(asked, owner, model, replaces=before, live=True)
        except StudioError as error:  # half a number, no word yet: the next key may mend it
            return {self.live_words: escape(text.LIVE_REFUSED.format(reason=error))}
        return {
            self.browser: gr.skip() if browser else fresh,
            self.live_job: job.id,
            self.live_words: "",
            # One that was typed may have got another digit meanwhile.
            self.form.seed: asked.seed if typed.seed is None else gr.skip(),
            **self._submitted(job),
        }

    def _read(self, owner: str, values: Sequence[Any]) -> tuple[GenerationRequest, str, Path]:
        """What `Jobs.submit` takes, of the values of both forms."""
        named = dict(zip(self.fields, values, strict=True))
        asked, card = self.form.read(named)
        return self.image.add(asked, card, named), owner, card.path

    def _submitted(self, job: Job) -> Updates:
        busy = gr.update(interactive=True)
        return {
            self.viewer.asked: job.id,
            self.viewer.stop: busy,
            self.viewer.skip: busy,
            self.viewer.line: self.viewer.line_of(job.owner),
        }

    def restore(self, browser: str, request: gr.Request) -> Updates:
        """A page that was just opened: its owner, its pictures, and the settings of its last drawing."""
        fresh = browser or secrets.token_urlsafe(24)
        owner = owner_of(request, fresh)
        active = self.context.jobs.active(owner)
        form: Updates = {self.form.model: self.form.offer_again(None)}
        first = str(self.form.card.path) if self.form.card is not None else ""
        if own := self.defaults.find(owner, first):
            form = self.form.choose_model(first, own)
        if active:
            form = self.form.show(active[0].request, active[0].model)
        else:
            for row in self.context.jobs.rows.newest(owner, 1):
                with suppress(RequestError):  # what an older or newer version could draw
                    last = replace(GenerationRequest.from_json(row["request"]), seed=None)
                    form = self.form.show(last, row["model"])
        pictures = self.viewer.newest(owner)
        seen = self.viewer.showing(owner, pictures[:1] if not active else [])
        asked = active[0].id if active else gr.skip()
        return {self.browser: gr.skip() if browser else fresh, self.viewer.asked: asked, **seen, **form}

    def last_seed(self, browser: str, request: gr.Request) -> int | None:
        """The seed of the newest picture."""
        newest = self.context.library.newest(owner_of(request, browser), 1)
        if not newest:
            raise refusal(text.NO_LAST_SEED)
        return newest[0].request.seed

    def example(self, model: str, event: gr.EventData) -> str:
        """The example prompt that was clicked."""
        card = self.context.model(model)
        examples = card.examples if card is not None else text.EXAMPLE_PROMPTS
        return examples[int(event.id) % len(examples)] if examples else ""

    def measures(self, model: str) -> str:
        """What was measured of the chosen model, as its folder says now."""
        card = self.context.model(model)
        return measured(card.path if card is not None and not card.elsewhere else None)
