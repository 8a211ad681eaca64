"""The HTML of the line of jobs: what runs, what waits, and what a server that ended left undone."""

import sqlite3
from collections.abc import Sequence
from html import escape

from app import text
from app.job import JobState, JobView
from models.errors import RequestError
from pipelines.request import GenerationRequest


def line(jobs: Sequence[JobView], left: Sequence[sqlite3.Row]) -> str:
    """An owner's jobs, the running one first, and rows of those left undone; nothing where none waits.

    Its buttons carry `data-id`, an action and the id of a job with a colon between them.
    """
    waiting = [view for view in jobs if view.state is JobState.QUEUED and view.position > 0]
    entries = []
    if waiting:
        for view in jobs:
            actions = ["cancel"]
            if view.state is JobState.QUEUED and len(waiting) > 1:
                actions = ["up"] * (view is not waiting[0]) + ["down"] * (view is not waiting[-1]) + actions
            state = text.STATUS_STARTED if view.state is JobState.RUNNING else _place(view)
            entries.append(_entry(view.id, state, view.request, actions))
    for row in left:
        try:
            request = GenerationRequest.from_json(row["request"])
        except RequestError:  # what an older or newer version could draw
            continue
        entries.append(_entry(row["id"], text.LINE_INTERRUPTED, request, ["again", "forget"]))
    if not entries:
        return ""
    return f'<section class="ls-line"><h2>{text.LINE}</h2><ol>{"".join(entries)}</ol></section>'


def _place(view: JobView) -> str:
    return text.QUEUED_NEXT if view.position <= 1 else text.QUEUED.format(position=view.position)


def _entry(job_id: str, state: str, request: GenerationRequest, actions: Sequence[str]) -> str:
    drawing = text.DETAILS
    settings = (
        f"{request.count}\N{MULTIPLICATION SIGN} {text.size(request.width, request.height)}",
        f"{drawing['steps']} {request.steps}",
        request.sampler,
        f"{drawing['guidance']} {request.guidance_scale:g}",
        f"{drawing['seed']} {request.seed}",
    )
    prompt = escape(request.prompt)
    buttons = "".join(
        f'<button type="button" class="ls-chip" data-id="{action}:{escape(job_id)}" '
        f'aria-label="{text.LINE_ACTIONS[action]}: {prompt}">{text.LINE_ACTIONS[action]}</button>'
        for action in actions
    )
    return (
        f'<li><p class="ls-prompt">{prompt}</p><small>{state} · {escape(" · ".join(settings))}</small>'
        f'<div class="ls-chips">{buttons}</div></li>'
    )
