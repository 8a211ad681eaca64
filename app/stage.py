"""The HTML of the picture side of the page: the stage, the details of a picture, the strip of earlier ones.

Prompts come from people and from files, so everything that is not made here is escaped here.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from urllib.parse import quote

from gradio.utils import get_upload_folder
from PIL import Image

from app import text
from app.backend import waiting_words
from app.job import JobState, JobView
from app.picture import Picture
from app.previews import preview_pictures
from app.shelf import put, shelf
from pipelines.export import SUFFIXES
from pipelines.request import GenerationRequest

PREVIEW_MAX_PIXELS = 256
PREVIEW_JPEG_QUALITY = 80


def picture_url(path: Path) -> str:
    """Where the browser finds a picture: only those that a page shows are served, never the outputs folder.

    The file itself, linked, so the settings inside it survive a download.
    """
    return file_url(put(path, shelf(get_upload_folder())))


def file_url(path: Path) -> str:
    """Where the browser finds a file in the folder that Gradio serves."""
    return f"gradio_api/file={quote(str(path))}"


def preview_uri(image: Image.Image, request: GenerationRequest) -> str:
    """A small JPEG as a data URI, smoothed up to the size it is shown at; no file is written."""
    scale = min(1.0, PREVIEW_MAX_PIXELS / max(request.width, request.height))
    size = (max(1, round(request.width * scale)), max(1, round(request.height * scale)))
    buffer = io.BytesIO()
    image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(
        buffer, "JPEG", quality=PREVIEW_JPEG_QUALITY
    )
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def previews(view: JobView) -> dict[int, str]:
    """A small picture of each image that the latest step was about, by its number."""
    first = 0 if view.event is None else view.event.image_index
    return {
        first + index: preview_uri(image, view.request) for index, image in enumerate(preview_pictures(view))
    }


def chips(examples: Sequence[str]) -> str:
    """Example prompts as buttons, numbered."""
    buttons = "".join(
        f'<button type="button" class="ls-chip" data-id="{number}">{escape(example)}</button>'
        for number, example in enumerate(examples)
    )
    return (
        f'<div class="ls-chips" role="group" aria-label="{text.EXAMPLES}">{buttons}</div>'
        f'<p class="ls-keys">{text.KEYS} · <button type="button" data-keys>{text.ALL_KEYS}</button></p>'
    )


def empty_stage(words: str = "", hint: str = "") -> str:
    """The stage before the first picture; without words of their own, those of the Generate tab."""
    mark = (
        '<svg viewBox="0 0 64 64" aria-hidden="true"><rect x="6" y="10" width="52" height="44" rx="8"/>'
        '<circle cx="22" cy="26" r="5"/><path d="M8 48l16-14 10 9 10-12 12 13"/></svg>'
    )
    return _stage(
        "empty",
        f'<div class="ls-note">{mark}<p>{words or text.EMPTY_STAGE}</p>'
        f"<small>{hint or text.EMPTY_STAGE_HINT}</small></div>",
    )


def live_stage(view: JobView, previews: Mapping[int, str], more_waiting: int) -> str:
    """The stage while a job waits or runs: what can be seen of each picture, and how far it is."""
    request = view.request
    cells = []
    for index in range(request.count):
        uri = previews.get(index)
        drawing = view.event is not None and view.event.image_index <= index
        seen = f'<img src="{uri}" alt="{escape(_preview_words(request, index))}">' if uri else ""
        cells.append(f'<div class="ls-cell{" ls-drawing" if drawing or uri is None else ""}">{seen}</div>')
    left, right = _progress_words(view, more_waiting)
    return _stage("live", _grid(cells, request) + _progress(view, left, right))


def comparing(view: JobView, pictures: Sequence[Picture]) -> str:
    """The stage of a comparison under way: its pictures so far."""
    left, right = _progress_words(view, 0)
    if view.event is not None and not view.stopping:
        number = min(view.total, int(view.fraction * view.total) + 1)
        left = f"{text.COMPARE_PROGRESS.format(number=number, total=view.total)}, {left}"
    cells = [_thumbnail(picture, None) for picture in pictures]
    cells += ['<div class="ls-cell ls-drawing"></div>'] if len(cells) < view.total else []
    return _stage("live", _grid(cells, view.request) + _progress(view, left, right))


def sheet(picture: Picture, words: str) -> str:
    """The stage with the sheet of a comparison."""
    url, name = escape(picture_url(picture.path)), escape(picture.path.name)
    shown = escape(f"{text.SHEET}: {picture.request.prompt}")
    seen = f'<div class="ls-sheet"><img src="{url}" alt="{shown}"></div>'
    download = f'<a class="ls-link" href="{url}" download="{name}">{text.DOWNLOAD}</a>'
    foot = f'<div class="ls-foot"><p class="ls-words"><span>{escape(words)}</span>{download}</p></div>'
    return _stage("done", seen + foot)


def _progress(view: JobView, left: str, right: str) -> str:
    percent = round(100 * view.fraction)
    unknown = "" if view.event is not None else " ls-unknown"
    bar = (
        f'<div class="ls-bar{unknown}" role="progressbar" aria-label="{text.STAGE}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent}"><span style="width:{percent}%"></span></div>'
    )
    return f'<div class="ls-foot">{bar}<p class="ls-words"><span>{left}</span><span>{right}</span></p></div>'


def stopped_stage(view: JobView, previews: Mapping[int, str]) -> str:
    """The stage after a job ended without pictures, with the reason."""
    words = {
        JobState.CANCELLED: text.STOPPED,
        JobState.INTERRUPTED: text.INTERRUPTED,
    }.get(view.state, view.error or text.STATUS_FAILED)
    failed = view.state is not JobState.CANCELLED
    note = f'<p class="ls-words{" ls-error" if failed else ""}"><span>{escape(words)}</span></p>'
    if not previews:
        return _stage("empty", f'<div class="ls-note">{note}</div>')
    cells = [
        f'<div class="ls-cell"><img src="{uri}" alt="{escape(_preview_words(view.request, index))}"></div>'
        for index, uri in sorted(previews.items())
    ]
    return _stage("stopped", _grid(cells, view.request) + f'<div class="ls-foot">{note}</div>')


def finished_stage(pictures: Sequence[Picture], selected: str | None, words: str = "") -> str:
    """The stage with finished pictures, one of them selected; `words` stand below."""
    cells = [_thumbnail(picture, selected if len(pictures) > 1 else None) for picture in pictures]
    foot = f'<div class="ls-foot"><p class="ls-words"><span>{escape(words)}</span></p></div>' if words else ""
    return _stage("done", _grid(cells, pictures[0].request) + foot)


def picture_words(picture: Picture) -> str:
    """A picture for those who do not see it; not escaped."""
    return text.PICTURE_WORDS.format(prompt=picture.request.prompt, seed=picture.request.seed)


def picture_facts(picture: Picture) -> dict[str, str]:
    """What made a picture, in words, under the names of text.DETAILS."""
    request = picture.request
    return {
        "negative": request.negative_prompt,
        "seed": str(request.seed),
        "size": text.size(request.width, request.height),
        "steps": text.INSTANT_STEPS.format(steps=request.steps) if request.instant else str(request.steps),
        "sampler": request.sampler + ("" if request.schedule == "Automatic" else f", {request.schedule}"),
        "guidance": f"{request.guidance_scale:g}",
        "interval": ""
        if (request.guidance_start, request.guidance_end) == (0, 1)
        else f"{request.guidance_start:g} \N{EN DASH} {request.guidance_end:g}",
        "variation": text.VARIATION_OF.format(
            strength=f"{request.variation_strength:g}", seed=request.variation_seed
        )
        if request.variation_strength
        else "",
        "controls": ", ".join(
            text.CONTROL_OF.format(name=one.controlnet, scale=f"{one.scale:g}") for one in request.controls
        ),
        "noise": "" if request.noise == "cpu" else text.NOISES[request.noise],
        "model": picture.model,
        "drawn": datetime.fromtimestamp(picture.created).strftime(text.DATE).lstrip("0"),
        "engine": picture.engine,
        "note": picture.note,
    }


def use_button(name: str, label: str, value: str) -> str:
    """A setting of a picture, as a button that asks for it alone by its name."""
    if name in ("controls", "drawn", "engine", "note"):  # nothing to use again
        return escape(value)
    hint = escape(text.USE_FIELD.format(name=label))
    return f'<button type="button" class="ls-use" data-id="{name}" title="{hint}">{escape(value)}</button>'


def details(picture: Picture | None) -> str:
    """What made a picture, as a list of names and values."""
    if picture is None:
        return ""
    listed = "".join(
        f"<div><dt>{text.DETAILS[name]}</dt><dd>{use_button(name, text.DETAILS[name], value)}</dd></div>"
        for name, value in picture_facts(picture).items()
        if value
    )
    url, name = escape(picture_url(picture.path)), escape(picture.path.name)
    download = f'<a class="ls-link" href="{url}" download="{name}">{text.DOWNLOAD}</a>'
    others = "".join(
        f'<button type="button" class="ls-link" data-id="as:{format}">'
        f"{text.DOWNLOAD_AS.format(format=format)}</button>"
        for format in SUFFIXES
        if format != "PNG"
    )
    prompt = picture.request.prompt
    used = f'<p class="ls-prompt">{use_button("prompt", text.PROMPT, prompt)}</p>' if prompt else ""
    copies = "".join(
        f'<button type="button" class="ls-link" data-copy="{escape(words)}">{label}</button>'
        for words, label in ((prompt, text.COPY_PROMPT), (str(picture.request.seed), text.COPY_SEED))
        if words
    )
    return (
        f'<div class="ls-details">{used}<dl>{listed}</dl>'
        f'<p class="ls-links">{download}{others}{copies}</p></div>'
    )


def strip(pictures: Sequence[Picture], selected: str | None) -> str:
    """The owner's pictures, newest first, as a grid of buttons."""
    if not pictures:
        return f'<p class="ls-quiet">{text.HISTORY_EMPTY}</p>'
    return f'<div class="ls-strip">{"".join(_thumbnail(picture, selected) for picture in pictures)}</div>'


def _thumbnail(picture: Picture, selected: str | None) -> str:
    words = escape(picture_words(picture))
    pressed = "true" if picture.id == selected else "false"
    return (
        f'<button type="button" class="ls-cell" data-id="{escape(picture.id)}" aria-pressed="{pressed}" '
        f'title="{words}">'
        f'<img src="{escape(picture_url(picture.path))}" alt="{words}" loading="lazy"></button>'
    )


def _stage(state: str, inside: str) -> str:
    return f'<div class="ls-stage" data-state="{state}">{inside}</div>'


def _grid(cells: list[str], request: GenerationRequest) -> str:
    columns = next(side for side in range(1, 11) if side * side >= len(cells))
    rows = -(-len(cells) // columns)
    shape = f"--columns:{columns};--rows:{rows};--width:{request.width};--height:{request.height}"
    return f'<div class="ls-area"><div class="ls-grid" style="{shape}">{"".join(cells)}</div></div>'


def _preview_words(request: GenerationRequest, index: int) -> str:
    return text.PREVIEW_WORDS.format(number=index + 1, count=request.count, prompt=request.prompt)


def _progress_words(view: JobView, more_waiting: int) -> tuple[str, str]:
    if view.stopping or view.skipping:
        return f"{text.STOPPING if view.stopping else text.SKIPPING}…", ""
    if view.state is JobState.QUEUED:
        left = text.QUEUED.format(position=view.position) if view.position > 1 else text.QUEUED_NEXT
        if view.position == 0:  # no other job is before it
            left = f"{text.LOADING}…"
    elif view.event is None:
        words = waiting_words(view.engine) or (text.LOADING if view.engine is None else text.READING)
        left = f"{escape(words)}…"
    elif view.fraction >= 1.0:
        left = f"{text.DECODING}…"
    else:
        event = view.event
        left = text.STEP.format(step=event.step, total=event.total)
        if event.images < view.request.count:
            words = text.BATCH_ONE if event.images == 1 else text.BATCH_MANY
            first, last = event.image_index + 1, event.image_index + event.images
            left += ", " + words.format(first=first, last=last, count=view.request.count)
    right = []
    if view.seconds_left is not None and view.fraction < 1.0:
        right.append(text.LEFT.format(seconds=text.seconds_left(view.seconds_left)))
    if more_waiting > 0:
        right.append(text.MORE_WAITING.format(count=more_waiting))
    return left, " · ".join(right)
