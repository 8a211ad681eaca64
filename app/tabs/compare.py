"""The Compare tab: the order of the Generate tab drawn once for each value of two or three settings."""

import secrets
from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

from app import stage, text
from app.comparison import Comparison, runs_that_draw
from app.context import Context
from app.job import JobState, JobView
from app.picture import Picture
from app.tabs.events import CLICK_ON_ID, POLITE, QUICK, Update, owner_of, refusal, viewers
from app.tabs.generate import GenerateTab
from models.errors import RequestError, StudioError
from pipelines.compare.axes import MAX_AXES, Axis, parse_axis

NONE = ""
FIRST = (("guidance_scale", "1, 3, 5, 7"), ("steps", "5, 10, 20"), (NONE, ""))


class CompareTab:
    """Builds the tab into the Blocks that are open, and holds its handlers."""

    def __init__(self, context: Context, generate: GenerateTab) -> None:
        self.context, self.generate = context, generate
        choices = [(text.COMPARE_NOTHING, NONE), *((words, field) for field, words in text.COMPARED.items())]
        with gr.Row(elem_id="compare"):
            with gr.Column(elem_id="compare-ask"):
                gr.HTML(f'<p class="ls-quiet">{text.COMPARE_HINT}</p>', apply_default_css=False)
                self.axes: list[gr.components.Component] = []
                for number in range(MAX_AXES):
                    field, values = FIRST[number]
                    with gr.Row(elem_classes="ls-axis"):
                        self.axes += [
                            gr.Dropdown(
                                choices,
                                value=field,
                                label=text.COMPARE_AXES[number],
                                min_width=120,
                                elem_id=f"axis-{number + 1}",
                            ),
                            gr.Textbox(
                                values,
                                label=text.COMPARE_VALUES,
                                max_lines=3,
                                min_width=140,
                                elem_id=f"values-{number + 1}",
                            ),
                        ]
                with gr.Row(elem_id="compare-actions"):
                    self.draw = gr.Button(text.COMPARE, variant="primary", scale=3, elem_id="draw-comparison")
                    self.stop = gr.Button(text.STOP, interactive=False, scale=1, elem_id="stop-comparison")
                gr.HTML(text.COMPARE_HELP, apply_default_css=False, elem_id="compare-help")
            with gr.Column(elem_id="compare-see"):
                self.stage = gr.HTML(
                    stage.empty_stage(text.COMPARE_EMPTY, text.COMPARE_EMPTY_HINT),
                    apply_default_css=False,
                    js_on_load=CLICK_ON_ID,
                    elem_id="sheet",
                )
                self.status = gr.HTML("", js_on_load=POLITE, elem_id="sheet-status")
        self.job = gr.State("")
        self._seen = [self.stage, self.stop, self.status]
        browser, form = generate.browser, generate.form
        submitted = self.draw.click(
            self.submit, [browser, *self.axes, *form.fields.values()], [browser, self.job, self.stop], **QUICK
        )
        submitted.success(self.follow, [browser, self.job], self._seen, **viewers(context))
        self.stop.click(self.cancel, [browser, self.job], [self.stop], **QUICK)

    def submit(self, browser: str, request: gr.Request, *values: Any) -> Update:
        """Check what is asked and put it in the queue; gr.Error says what is wrong."""
        fresh = browser or secrets.token_urlsafe(24)
        asked, form = values[: 2 * MAX_AXES], self.generate.form
        try:
            base, card = form.read(dict(zip(form.fields, values[2 * MAX_AXES :], strict=True)))
            comparison = self.comparison(list(zip(asked[::2], asked[1::2], strict=True)))
            owner = owner_of(request, fresh)
            job = self.context.jobs.submit(base, owner, card.path, comparison=comparison)
        except StudioError as error:
            raise refusal(error) from None
        return gr.skip() if browser else fresh, job.id, gr.update(interactive=True)

    def comparison(self, asked: list[tuple[str, str]]) -> Comparison:
        """What the fields and their values mean; RequestError says what is wrong."""
        folders = {card.name: card.path for card in self.context.models}
        steps: dict[str, list[int]] = {}
        if any(field == "checkpoint" for field, _ in asked):
            from training.export import checkpoint_steps

            for run, folder in runs_that_draw().items():
                steps[run] = checkpoint_steps(folder)
                folders |= {f"{run}: {step}": folder / "checkpoints" / f"step-{step}" for step in steps[run]}
        axes: list[Axis] = [
            parse_axis(field, words or "", list(folders), steps) for field, words in asked if field
        ]
        if not axes:
            raise RequestError(text.COMPARE_NO_AXIS)
        named = {name for axis in axes if axis.field in ("model", "checkpoint") for name in axis.values}
        return Comparison(tuple(axes), {name: folders[name] for name in named})

    def cancel(self, browser: str, job_id: str, request: gr.Request) -> Any:
        """Stop the comparison at its next step; what is drawn is kept."""
        self.context.jobs.cancel(job_id, owner_of(request, browser))
        return gr.update(interactive=False)

    def follow(self, browser: str, job_id: str, request: gr.Request) -> Iterator[Update]:
        """Show the comparison until it is over; closing this touches no job."""
        owner, jobs = owner_of(request, browser), self.context.jobs
        job = jobs.find(job_id, owner)
        if job is None:
            yield (gr.skip(),) * len(self._seen)
            return
        seen = None
        for view in jobs.watch(job):
            if view.over:
                yield self._ending(view, owner)
                if view.state is JobState.FAILED:
                    raise gr.Error(
                        view.error or text.STATUS_FAILED, title=text.STATUS_FAILED, print_exception=False
                    )
                return
            status = escape(f"{text.STATUS_STARTED}: {view.request.prompt}") if seen is None else gr.skip()
            seen = view.state
            yield stage.comparing(view, self._pictures(view, owner)), gr.skip(), status

    def _ending(self, view: JobView, owner: str) -> Update:
        pictures = self._pictures(view, owner)
        sheet = pictures[-1] if pictures and pictures[-1].id.endswith("-sheet") else None
        ended = gr.update(interactive=False)
        if sheet is None:
            return stage.stopped_stage(view, {}), ended, escape(view.error or text.STATUS_STOPPED)
        done = view.state is JobState.DONE
        words = text.done(view.total, view.seconds) if done else text.stopped(len(pictures) - 1)
        return stage.sheet(sheet, words), ended, escape(words)

    def _pictures(self, view: JobView, owner: str) -> list[Picture]:
        found = [self.context.library.find(path.stem, owner) for path in view.paths]
        return [picture for picture in found if picture is not None]
