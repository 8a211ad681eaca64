"""The page's main tab: words in, pictures out. Its handlers submit jobs and look at them; they never draw."""

import json
import secrets
from contextlib import suppress
from dataclasses import replace
from typing import Any

import gradio as gr

from app import stage, text
from app.context import Context
from app.measured import measured
from app.tabs.chosen import Chosen
from app.tabs.events import CLICK_ON_ID, QUICK, Updates, owner_of, refusal, viewers
from app.tabs.form import RANDOM_SEED, Form
from app.tabs.image import ImageForm
from app.tabs.viewer import Viewer
from models.errors import RequestError, StudioError
from pipelines.request import GenerationRequest
from pipelines.samplers import SAMPLERS

# In the browser, at once: a list that changes while it is open confuses Gradio's dropdown.
CHOICES = json.dumps({name: [[words, words] for words in row.schedules] for name, row in SAMPLERS.items()})
SCHEDULES_OF_SAMPLER = f"sampler => ({{__type__: 'update', value: 'Automatic', choices: {CHOICES}[sampler]}})"
# Fixed, or a restart would forget who drew what.
BROWSER_KEY, BROWSER_CIPHER = "latent-studio-owner", "latent-studio"


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
        examples = self.form.card.examples if self.form.card is not None else text.EXAMPLE_PROMPTS
        with gr.Row(elem_id="studio"):
            with gr.Column(elem_id="ask"):
                self.form.build_words()
                self.form.words.build_tokens()
                with gr.Row(elem_id="actions"):
                    self.generate = gr.Button(text.GENERATE, variant="primary", elem_id="generate", scale=3)
                    self.viewer.build_buttons()
                self.forever = gr.Checkbox(label=text.FOREVER, elem_id="forever")  # static/viewer.js answers
                self.examples = gr.HTML(
                    stage.chips(examples), apply_default_css=False, js_on_load=CLICK_ON_ID, elem_id="examples"
                )
            with gr.Column(elem_id="see"):
                self.viewer.build_stage()
            with gr.Column(elem_id="settings"):
                self.form.build_settings()
                self.image.build()
            with gr.Column(elem_id="history"):
                gr.HTML(f"<h2>{text.HISTORY}</h2>", apply_default_css=False)
                self.viewer.build_strip()
            self.measured = gr.HTML(
                self.measures(str(self.form.card.path) if self.form.card else ""),
                apply_default_css=False,
                elem_id="measured",
            )
        self.fields = self.form.fields | self.image.fields
        self.viewer.connect()
        self.chosen.connect()
        self._connect()

    def _connect(self) -> None:
        form, browser, viewer = self.form, self.browser, self.viewer
        submitted = self.generate.click(
            self.submit,
            [browser, *self.fields.values()],
            [browser, viewer.stop, viewer.skip, viewer.line],
            trigger_mode="multiple",
            **QUICK,
        )
        submitted.success(viewer.follow, [browser], viewer.outputs, **viewers(self.context))
        self.examples.select(self.example, [form.model], [form.prompt], **QUICK)
        form.keep_seed.click(self.last_seed, [browser], [form.seed], **QUICK)
        form.dice.click(lambda: RANDOM_SEED, None, [form.seed], **QUICK)
        size = [form.fields["width"], form.fields["height"]]
        form.swap.click(form.swapped, [form.size, *size], [form.size, form.custom_size, *size], **QUICK)
        form.size.input(form.sizes, [form.size, *size], [form.custom_size, *size], **QUICK)
        form.sampler.input(None, [form.sampler], [form.schedule], js=SCHEDULES_OF_SAMPLER, **QUICK)
        form.model.input(form.choose_model, [form.model], form.outputs, **QUICK)
        form.model.change(self.measures, [form.model], [self.measured], **QUICK)
        form.instant.input(form.choose_instant, [form.model, form.instant], form.outputs, **QUICK)
        counted = [form.model, form.prompt, form.words.styles, form.seed, form.steps]
        for control in (form.prompt, form.words.styles, form.model):
            control.change(  # one at a time: what is typed meanwhile is counted when the answer is there
                form.words.count_tokens, counted, [form.words.tokens], trigger_mode="always_last", **QUICK
            )

    def connect_load(self, page: gr.Blocks) -> None:
        """What a browser does that opens or reloads the page: find its pictures and its running job."""
        everything = [self.browser, *self.viewer.outputs, *self.form.outputs]
        loaded = page.load(self.restore, [self.browser], everything, **QUICK)
        loaded.then(self.viewer.reattach, [self.browser], self.viewer.outputs, **viewers(self.context))
        page.load(self.form.words.style_choices, None, [self.form.words.styles], **QUICK)
        page.load(self.measures, [self.form.model], [self.measured], **QUICK)

    def submit(self, browser: str, request: gr.Request, *values: Any) -> Updates:
        """Check what is asked and put it in the queue; gr.Error says what is wrong."""
        fresh = browser or secrets.token_urlsafe(24)
        owner, named = owner_of(request, fresh), dict(zip(self.fields, values, strict=True))
        try:
            asked, card = self.form.read(named)
            self.context.jobs.submit(self.image.add(asked, card, named), owner, card.path)
        except StudioError as error:
            raise refusal(error) from None
        busy = gr.update(interactive=True)
        return {
            self.browser: gr.skip() if browser else fresh,
            self.viewer.stop: busy,
            self.viewer.skip: busy,
            self.viewer.line: self.viewer.line_of(owner),
        }

    def restore(self, browser: str, request: gr.Request) -> Updates:
        """A page that was just opened: its owner, its pictures, and the settings of its last drawing."""
        fresh = browser or secrets.token_urlsafe(24)
        owner = owner_of(request, fresh)
        active = self.context.jobs.active(owner)
        form: Updates = {self.form.model: self.form.offer_again(None)}
        if active:
            form = self.form.show(active[0].request, active[0].model)
        else:
            for row in self.context.jobs.rows.newest(owner, 1):
                with suppress(RequestError):  # what an older or newer version could draw
                    last = replace(GenerationRequest.from_json(row["request"]), seed=None)
                    form = self.form.show(last, row["model"])
        pictures = self.viewer.newest(owner)
        seen = self.viewer.showing(owner, pictures[:1] if not active else [])
        return {self.browser: gr.skip() if browser else fresh, **seen, **form}

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
        return measured(card.path if card is not None else None)
