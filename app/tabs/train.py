"""The Train tab: look at a folder, start, and watch. Its handlers look at run folders; they never train."""

import hashlib
from collections.abc import Iterator
from typing import Any

import gradio as gr

from app import text, training_view
from app.context import Context
from app.dataset import dataset_view, folder_named, look_into
from app.estimates import dry_run, step_seconds
from app.tabs.events import POLITE, QUICK, Update, Updates, refusal, viewers
from app.tabs.generate import GenerateTab
from app.tabs.train_form import Order, TrainForm
from app.trainings import LIVE, State, Training, find, new_run, resume, start, stop, trainings
from app.visitors import sits_here
from models.errors import StudioError

REFRESH_SECONDS = 2.0
# Seen, in a hidden window, or left for another tab: the first alone is worth work, the last ends the timer.
WHERE_ONE_LOOKS = (
    "(at, ...rest) => [document.querySelector('#train')?.offsetParent == null ? 'left' : "
    "document.hidden ? 'hidden' : 'seen', ...rest.slice(0, 4)]"
)


class TrainTab:
    """Builds the tab into the Blocks that are open, and holds its handlers."""

    def __init__(self, context: Context, generate: GenerateTab, tabs: gr.Tabs, tab: gr.Tab) -> None:
        self.context, self.generate, self.tabs = context, generate, tabs
        self.elsewhere = gr.HTML(
            f'<p class="ls-quiet">{text.TRAIN_ELSEWHERE}</p>', apply_default_css=False, visible=False
        )
        with gr.Row(visible=False, elem_id="train") as self.all:
            with gr.Column(elem_id="train-ask"):
                gr.HTML(f'<p class="ls-quiet">{text.TRAIN_HINT}</p>', apply_default_css=False)
                self.form = TrainForm(context)
                self.told = gr.HTML("", apply_default_css=False, js_on_load=POLITE, elem_id="train-told")
                self.dataset = gr.HTML("", apply_default_css=False, elem_id="train-dataset")
            with gr.Column(elem_id="train-see"):
                with gr.Row(visible=False, elem_id="train-which") as self.which:
                    self.run = gr.Dropdown([], label=text.TRAIN_RUN, min_width=160, elem_id="train-run")
                    self.other = gr.Dropdown([], label=text.TRAIN_OTHER, min_width=160, elem_id="train-other")
                self.card = gr.HTML(training_view.card(None), apply_default_css=False, elem_id="train-card")
                with gr.Row(elem_id="train-actions"):
                    self.pause = gr.Button(text.TRAIN_PAUSE, size="sm", visible=False, elem_id="train-pause")
                    self.stop = gr.Button(text.TRAIN_STOP, size="sm", visible=False, elem_id="train-stop")
                    self.resume = gr.Button(
                        text.TRAIN_RESUME, size="sm", visible=False, elem_id="train-resume"
                    )
                    self.try_it = gr.Button(text.TRAIN_TRY, size="sm", visible=False, elem_id="train-try")
                    self.use = gr.Button(
                        text.TRAIN_USE_AUTOENCODER, size="sm", visible=False, elem_id="train-use"
                    )
                self.plots = gr.HTML("", apply_default_css=False, elem_id="train-plots")
                self.scale = gr.Radio(
                    [(words, scale) for scale, words in text.TRAIN_SCALES.items()],
                    value="log", label=text.TRAIN_SCALE, visible=False, elem_id="train-scale",
                )  # fmt: skip
                self.samples = gr.HTML("", apply_default_css=False, elem_id="train-samples")
                self.differences = gr.HTML("", apply_default_css=False, elem_id="train-differences")
        self.seen = gr.State({})  # what the browser has of each part, so that only news are sent
        self.timer = gr.Timer(REFRESH_SECONDS, active=False)
        self.looking_at = gr.Textbox(visible=False)
        self._shown = [
            self.seen, self.which, self.run, self.other, self.card, self.pause, self.stop, self.resume,
            self.try_it, self.use, self.plots, self.scale, self.samples, self.differences,
        ]  # fmt: skip
        self._connect(tab)

    def _connect(self, tab: gr.Tab) -> None:
        form, viewer = self.form, viewers(self.context)
        asked = [self.run, self.other, self.scale, self.seen]
        shown = [self.elsewhere, self.all, self.timer, form.begin, *self._shown]
        tab.select(self.open, [form.stage, *asked], shown, **QUICK)
        self.timer.tick(
            self.tick, [self.looking_at, *asked], [self.timer, *self._shown], js=WHERE_ONE_LOOKS,
            trigger_mode="once", **QUICK,
        )  # fmt: skip
        for control in (self.run, self.other, self.scale):
            control.input(self.show, asked, self._shown, **QUICK)
        looked = [self.told, self.dataset]
        form.look.click(self.look, [form.folder], looked, **viewer)
        form.folder.submit(self.look, [form.folder], looked, **viewer)
        form.estimate.click(self.estimate, form.fields, [self.told], **viewer)
        started = form.start.click(self.start, form.fields, [self.told, self.run], **viewer)
        started.success(self.show, asked, self._shown, **QUICK)
        for button, handler in (
            (self.pause, self.ask_to_pause), (self.stop, self.ask_to_stop), (self.resume, self.go_on),
        ):  # fmt: skip
            button.click(handler, [self.run], None, **QUICK).success(self.show, asked, self._shown, **QUICK)
        drawing = [*self.generate.form.outputs, self.tabs]
        self.try_it.click(self.offer, [self.run], drawing, **QUICK)
        brought = [form.stage, form.begin, form.preset, form.side, form.autoencoder]
        self.use.click(self.use_autoencoder, [self.run], brought, **QUICK)
        form.stage.input(self.choose_stage, [form.stage], brought[1:], **QUICK)
        for control in (form.begin, form.preset):
            control.input(self.choose_begin, brought[:3], [form.side, form.autoencoder], **QUICK)

    def open(
        self,
        stage: str,
        name: str | None,
        other: str | None,
        scale: str,
        seen: dict[str, str],
        request: gr.Request,
    ) -> Update:
        """Show the tab to a person of this machine, and to others why not."""
        if not sits_here(request):
            hidden = gr.update(visible=False)
            return gr.update(visible=True), hidden, gr.skip(), gr.skip(), *(gr.skip(),) * len(self._shown)
        shown = self.show(name, other, scale, seen, request)
        begins = gr.update(choices=self.form.begins(stage))
        return gr.skip(), gr.update(visible=True), gr.Timer(active=True), begins, *shown

    def tick(
        self, looking_at: str, name: str | None, other: str | None, scale: str, seen: dict[str, str],
        request: gr.Request,
    ) -> Update:  # fmt: skip
        """What is new; nothing where nobody looks, and no more ticks once another tab is open."""
        if looking_at != "seen" or not sits_here(request):
            timer = gr.skip() if looking_at == "hidden" else gr.Timer(active=False)
            return timer, *(gr.skip(),) * len(self._shown)
        return gr.skip(), *self.show(name, other, scale, seen, request)

    def show(
        self, name: str | None, other: str | None, scale: str, seen: dict[str, str], request: gr.Request
    ) -> Update:
        """The chosen training, else the newest, and beside it another one: the parts that changed."""
        _only_here(request)
        every = trainings()
        known = {one.name: one for one in every}
        chosen = known.get(name or "") or (every[0] if every else None)
        beside = known.get(other or "") if other != (chosen.name if chosen else None) else None
        pair = [one for one in (chosen, beside) if one is not None]
        names = [(f"{one.name} · {text.TRAIN_STATES[one.state]}", one.name) for one in every]
        others = [(text.TRAIN_NO_OTHER, ""), *(one for one in names if chosen and one[1] != chosen.name)]
        plots = training_view.plots(pair, scale == "log")
        live = chosen is not None and chosen.state in LIVE
        can_be_asked = live and chosen is not None and chosen.state is not State.STOPPING
        parts: dict[str, Any] = {
            "which": gr.update(visible=bool(every)),
            "run": gr.update(choices=names, value=chosen.name if chosen else None),
            "other": gr.update(choices=others, value=beside.name if beside else "", visible=len(every) > 1),
            "card": "".join(training_view.card(one) for one in pair) or training_view.card(None),
            "pause": gr.update(visible=live, interactive=can_be_asked),
            "stop": gr.update(visible=live, interactive=can_be_asked),
            "resume": gr.update(visible=chosen is not None and chosen.can_go_on),
            "try": gr.update(visible=chosen is not None and chosen.model is not None),
            "use": gr.update(
                visible=chosen is not None and chosen.model is None and chosen.autoencoder is not None
            ),
            "plots": plots,
            "scale": gr.update(visible=bool(plots)),
            "samples": training_view.samples(pair),
            "differences": training_view.differences(*pair) if len(pair) == 2 else "",
        }
        digests = {part: hashlib.sha256(repr(value).encode()).hexdigest() for part, value in parts.items()}
        news = [value if digests[part] != seen.get(part) else gr.skip() for part, value in parts.items()]
        return digests if digests != seen else gr.skip(), *news

    def look(self, folder: str, request: gr.Request) -> Iterator[Update]:
        """The pictures of a folder, and what of it would be skipped and why."""
        _only_here(request)
        yield training_view.waiting(text.TRAIN_LOOKING), gr.skip()
        try:
            yield "", dataset_view(look_into(folder_named(folder or "")))
        except StudioError as error:
            yield "", ""
            raise refusal(error) from None

    def estimate(self, request: gr.Request, *values: Any) -> Iterator[str]:
        """What a dry run says that the training would take."""
        _only_here(request)
        order = self._read(values)
        for said in self._measure(order):
            yield training_view.estimate_view(said) if said else training_view.waiting(text.TRAIN_MEASURING)

    def start(self, request: gr.Request, *values: Any) -> Iterator[Update]:
        """Start the training, after a measurement where its length is given in minutes."""
        _only_here(request)
        order = self._read(values)
        if order.minutes is not None:
            measuring = self._measure(order)
            while not (said := next(measuring)):
                yield training_view.waiting(text.TRAIN_MEASURING_FIRST), gr.skip()
            order = order.measured(step_seconds(said))
        try:
            run = new_run(order.name)
            start(order.arguments, run)
        except StudioError as error:
            raise refusal(error) from None
        yield "", gr.update(choices=[(run.name, run.name)], value=run.name)

    def ask_to_pause(self, name: str, request: gr.Request) -> None:
        """Have the training end after the step at hand, to be gone on with."""
        stop(self._find(name, request), State.PAUSED)

    def ask_to_stop(self, name: str, request: gr.Request) -> None:
        """Have the training end after the step at hand."""
        stop(self._find(name, request), State.STOPPED)

    def go_on(self, name: str, request: gr.Request) -> None:
        """Start a training again that was paused, stopped, or failed."""
        try:
            resume(self._find(name, request))
        except StudioError as error:
            raise refusal(error) from None

    def offer(self, name: str, request: gr.Request) -> Updates:
        """Offer the model of the newest checkpoint to draw with, choose it, and go there."""
        model = self._find(name, request).model
        if model is None:
            raise refusal(text.TRAIN_NOTHING_YET)
        try:
            added = self.context.models.add(model.resolve())
        except StudioError as error:
            raise refusal(error) from None
        return {**self.generate.form.choose_model(added.path), self.tabs: gr.Tabs(selected="generate")}

    def use_autoencoder(self, name: str, request: gr.Request) -> Update:
        """Put a trained autoencoder into the form, for a new denoiser in its latents."""
        folder = self._find(name, request).autoencoder
        if folder is None:
            raise refusal(text.TRAIN_NOTHING_YET)
        config, form = self._find(name, request).config, self.form
        tiny = config["autoencoder"].get("preset") == "tiny"
        begins, names, _, autoencoders = form.choose_stage("diffusion")
        return (
            "diffusion",
            {**begins, "value": ""},
            {**names, "value": "tiny-diffusion" if tiny else "starter-diffusion"},
            config["data"]["resolution"],
            {**autoencoders, "value": str(folder.absolute()), "visible": True},
        )

    def choose_stage(self, stage: str, request: gr.Request) -> Update:
        """What fits another stage: models to begin from, presets, side."""
        _only_here(request)
        return self.form.choose_stage(stage)

    def choose_begin(self, stage: str, begin: str | None, preset: str, request: gr.Request) -> Update:
        """What fits another model to begin from, or another preset: side, and whose latents."""
        _only_here(request)
        return self.form.choose_begin(stage, begin, preset)

    def _read(self, values: tuple[Any, ...]) -> Order:
        try:
            order = self.form.read(*values)
        except StudioError as error:
            raise refusal(error) from None
        if order.lacks_autoencoder:
            raise refusal(text.TRAIN_NO_AUTOENCODER.format(preset=order.preset))
        return order

    def _measure(self, order: Order) -> Iterator[str]:
        try:
            yield from dry_run(order.arguments)
        except StudioError as error:
            raise refusal(error) from None

    def _find(self, name: str, request: gr.Request) -> Training:
        _only_here(request)
        training = find(name or "")
        if training is None:
            raise refusal(text.TRAIN_GONE)
        return training


def _only_here(request: gr.Request) -> None:
    if not sits_here(request):
        raise refusal(text.TRAIN_ELSEWHERE)
