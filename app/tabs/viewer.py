"""What shows an owner's jobs and pictures. Its handlers wait and look; closing one touches no job."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from app import stage, text
from app.context import Context
from app.job import Job, JobState, JobView
from app.picture import Picture
from app.shelf import shelf, take_down
from app.tabs.chosen import Chosen
from app.tabs.events import CLICK_ON_ID, POLITE, QUICK, Updates, owner_of, refusal, viewers
from app.waiting import line
from models.errors import StudioError


class Viewer:
    """Builds the stage with what stands below it, the strip of pictures, and the buttons that end a job."""

    def __init__(self, context: Context, chosen: Chosen) -> None:
        self.context, self.chosen, self.browser = context, chosen, chosen.browser
        # The id of the job that was asked for last: one event, so one view a page, whoever asked.
        self.asked = gr.State("")
        self.ended = gr.State("")  # of that whose end is shown

    def build_buttons(self) -> None:
        """Skip and Stop."""
        self.skip = gr.Button(text.SKIP, elem_id="skip", interactive=False, scale=1)
        self.stop = gr.Button(text.STOP, elem_id="stop", interactive=False, scale=1)

    def build_stage(self) -> None:
        """The stage, what there is of the chosen picture, and the line of jobs."""
        self.stage = gr.HTML(
            stage.empty_stage(), apply_default_css=False, js_on_load=CLICK_ON_ID, elem_id="stage"
        )
        self.chosen.build()
        self.status = gr.HTML("", elem_id="status", js_on_load=POLITE)
        self.line = gr.HTML("", apply_default_css=False, js_on_load=CLICK_ON_ID, elem_id="line")

    def build_strip(self) -> None:
        """The newest pictures."""
        self.strip = gr.HTML(
            stage.strip([], None), apply_default_css=False, js_on_load=CLICK_ON_ID, elem_id="strip"
        )

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        """What `follow`, `select` and `showing` may write to."""
        return [
            *self.chosen.outputs, self.stage, self.strip, self.status, self.stop, self.skip, self.line,
            self.ended,
        ]  # fmt: skip

    def connect(self) -> None:
        """The events of what was built."""
        self.stop.click(self.cancel, [self.browser], [self.stop, self.skip], **QUICK)
        self.skip.click(self.go_on, [self.browser], None, **QUICK)
        self.line.select(self.arrange, [self.browser], [self.line, self.asked], **QUICK)
        # What is asked for while a view comes to its end is seen by the next one.
        always = viewers(self.context) | {"trigger_mode": "always_last"}
        self.asked.change(self.follow, [self.browser, self.ended], self.outputs, **always)
        for pictures in (self.stage, self.strip):
            pictures.select(self.select, [self.browser], self.outputs, **QUICK)

    def cancel(self, browser: str, request: gr.Request) -> tuple[Any, Any]:
        """Stop everything this owner runs or waits for; the viewer says so when the step is over."""
        self.context.jobs.cancel_all(owner_of(request, browser))
        return (gr.update(interactive=False),) * 2

    def go_on(self, browser: str, request: gr.Request) -> None:
        """Leave the pictures that are being drawn, and go on with the next ones."""
        owner = owner_of(request, browser)
        for job in self.context.jobs.active(owner)[:1]:
            self.context.jobs.skip(job.id, owner)

    def arrange(self, browser: str, request: gr.Request, event: gr.EventData) -> Updates:
        """A click in the line of jobs: move or cancel one; draw again or forget one that was left undone."""
        owner, jobs = owner_of(request, browser), self.context.jobs
        asked: Any = gr.skip()
        action, _, job_id = str(event.id).partition(":")
        try:
            if action in ("up", "down"):
                jobs.move(job_id, owner, -1 if action == "up" else 1)
            elif action == "cancel":
                jobs.cancel(job_id, owner)
            elif action == "forget":
                jobs.rows.forget(job_id, owner)
            elif action == "again" and (job := jobs.again(job_id, owner)) is not None:
                asked = job.id
        except StudioError as error:
            raise refusal(error) from None
        return {self.line: self.line_of(owner), self.asked: asked}

    def follow(self, browser: str, ended: str, request: gr.Request) -> Iterator[Updates]:
        """Show the jobs of this owner, one by one, until none is left whose end was not shown."""
        owner, jobs = owner_of(request, browser), self.context.jobs
        seen = False
        while True:
            active = [job for job in jobs.active(owner) if not job.replaced]
            job = active[0] if active else jobs.latest(owner)
            if job is None or job.id == ended:
                if not seen:
                    yield {self.stage: gr.skip()}  # a viewer that yields nothing would blank the page
                return
            for updates in self._follow_one(job, owner):
                seen = True
                yield updates
            if not job.replaced:
                ended = job.id

    def select(self, browser: str, request: gr.Request, event: gr.EventData) -> Updates:
        """A click on a picture, on the stage or in the strip: show it with its settings."""
        owner = owner_of(request, browser)
        picture = self.context.library.find(str(event.id), owner)
        if picture is None or not picture.path.is_file():
            raise refusal(text.GONE)
        showing = self.showing(owner, self.context.library.siblings(picture, owner), picture)
        # While something is drawn the stage belongs to it, and the details alone are shown.
        return showing | {self.stage: gr.skip()} if self.context.jobs.active(owner) else showing

    def look_again(self, browser: str, selected: str, request: gr.Request) -> str:
        """The strip as it is now: pictures may have been deleted on another tab."""
        return stage.strip(self.newest(owner_of(request, browser)), selected)

    def showing(
        self, owner: str, pictures: Sequence[Picture], chosen: Picture | None = None, words: str = ""
    ) -> Updates:
        """The updates of everything seen: these pictures on the stage, one of them chosen."""
        chosen = chosen or (pictures[0] if pictures else None)
        chosen_id = chosen.id if chosen is not None else ""
        busy = gr.update(interactive=bool(self.context.jobs.active(owner)))
        return {
            self.stage: stage.finished_stage(pictures, chosen_id, words) if pictures else stage.empty_stage(),
            **self.chosen.showing(chosen),
            self.strip: stage.strip(self.newest(owner), chosen_id),
            self.status: escape(words),
            self.stop: busy,
            self.skip: busy,
            self.line: self.line_of(owner),
        }

    def line_of(self, owner: str) -> str:
        """The line of this owner's jobs, but for those drawn live, which come and go with each key."""
        jobs = self.context.jobs
        waiting = [jobs.view(job) for job in jobs.active(owner) if not job.live]
        return line(waiting, jobs.rows.interrupted(owner))

    def newest(self, owner: str) -> list[Picture]:
        """The pictures of the strip."""
        return self.context.library.newest(owner, self.context.settings.pictures_shown)

    def _follow_one(self, job: Job, owner: str) -> Iterator[Updates]:
        jobs, event, state = self.context.jobs, None, None
        previews: dict[int, str] = {}
        waiting = ""
        # Between two states of a live picture the stage and what stands below it stay as they are.
        stays = job.live and bool(self.context.library.newest(owner, 1))
        for view in jobs.watch(job):
            if view.replaced:
                return
            if view.over:
                yield self._ending(view, previews, owner) | {self.ended: view.id}
                self._complain(view, owner)
                return
            if view.event is not event:
                event = view.event
                previews |= stage.previews(view)
            seen: Updates = {}
            if previews or not stays:
                seen[self.stage] = stage.live_stage(view, previews, len(jobs.active(owner)) - 1)
            if state is None and not stays:  # once: one clicked on meanwhile keeps its details
                seen[self.chosen.column] = gr.update(visible=False)
            if view.state is not state and not stays:  # nobody wants each key read aloud
                words = text.STATUS_QUEUED if view.state is JobState.QUEUED else text.STATUS_STARTED
                seen[self.status] = escape(f"{words}: {view.request.prompt}")
            state = view.state
            before, waiting = waiting, self.line_of(owner)
            if waiting != before:
                seen[self.line] = waiting
            if seen:
                yield seen

    def _ending(self, view: JobView, previews: dict[int, str], owner: str) -> Updates:
        for path in view.gone:
            take_down(path, shelf(get_upload_folder()))
        found = [self.context.library.find(path.stem, owner) for path in view.paths]
        pictures = [picture for picture in found if picture is not None]
        if pictures:
            done = view.state is JobState.DONE
            words = text.done(len(pictures), view.seconds) if done else text.stopped(len(pictures))
            return self.showing(owner, pictures, words=words)
        words = text.STATUS_STOPPED if view.state is JobState.CANCELLED else view.error or text.STATUS_FAILED
        more = gr.update(interactive=bool(self.context.jobs.active(owner)))
        return {
            self.stage: stage.stopped_stage(view, previews),
            **self.chosen.showing(None),
            self.status: escape(words),
            self.stop: more,
            self.skip: more,
            self.line: self.line_of(owner),
        }

    def _complain(self, view: JobView, owner: str) -> None:
        if view.state is JobState.FAILED:
            message = view.error or text.STATUS_FAILED
            if not self.context.jobs.active(owner):
                raise gr.Error(message, title=text.STATUS_FAILED, print_exception=False)
            gr.Warning(message, title=text.STATUS_FAILED)  # an error would end the view of the jobs that wait
