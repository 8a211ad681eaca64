"""The HTML of the tab that looks inside: words over a picture, steps, channels, a walk, autoencoders."""

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from app import text
from app.job import JobState, JobView

if TYPE_CHECKING:  # torch takes seconds to import, and the worker has done it before any of this is shown
    from torch import Tensor

    from evaluation.reconstruction import Comparison
    from pipelines.inside.recording import Reading, Recording

MAP_SIDE = 32  # pixels of what is sent of a map: every word has one for each step
DARKEST = 215  # how much of the picture is left where a word has least: 255 is nothing
WALK_MILLISECONDS = 120


def picture_uri(image: Image.Image, kind: str = "PNG") -> str:
    """A picture as a data URI; nothing is written."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def map_uri(places: "Tensor") -> str:
    """A map (h, w) as a shade to lay over the picture: clear where it is highest, dark where it is lowest."""
    values = places.numpy()
    share = (values - values.min()) / max(float(values.max() - values.min()), 1e-12)  # (h, w) in [0, 1]
    dark = Image.fromarray(((1 - share) * DARKEST).round().astype(np.uint8))
    # Smoothly, since a browser that stretches a small picture shows its corners.
    scale = MAP_SIDE / max(dark.size)
    dark = dark.resize(
        (max(1, round(dark.width * scale)), max(1, round(dark.height * scale))), Image.Resampling.BICUBIC
    )
    shade = Image.new("LA", dark.size, 0)
    shade.putalpha(dark)
    return picture_uri(shade)


def words_view(recording: "Recording", original: Image.Image | None) -> str:
    """The picture, drawn again, and its prompt; a word under the pointer or the focus shows its map."""
    image, steps = recording.image, [event.step for event in recording.events]
    lens = (
        f'<figure class="ls-lens"><img src="{picture_uri(image)}" alt="{escape(text.INSIDE_AGAIN)}">'
        f'<img class="ls-shade" alt="" hidden></figure>'
    )
    if not recording.readings:
        return f'<div class="ls-look">{lens}<div><p class="ls-quiet">{text.INSIDE_NO_WORDS}</p></div></div>'
    slider = (
        f'<label class="ls-of-step"><span>{text.INSIDE_MAPS_OF} '
        f"<output>{text.INSIDE_ALL_STEPS}</output></span>"
        f'<input type="range" min="0" max="{len(steps)}" value="0" data-all="{text.INSIDE_ALL_STEPS}" '
        f'data-first="{steps[0]}" data-step="{text.INSIDE_STEP}"></label>'
    )
    lines = "".join(_reading(reading, steps) for reading in recording.readings)
    likeness = f'<p class="ls-quiet">{likeness_words(image, original)}</p>'
    return (
        f'<div class="ls-look">{lens}<div class="ls-read"><p class="ls-quiet">{text.INSIDE_HOVER}</p>'
        f"{lines}{slider}{likeness}</div></div>"
    )


def _reading(reading: "Reading", steps: Sequence[int]) -> str:
    """The words of a text as buttons; each holds its maps, the mean first, then one a step ("" is none)."""
    buttons = []
    for number, word in enumerate(reading.words):
        of_step = dict(zip(reading.steps, reading.maps[:, number], strict=True))  # (h, w) each
        uris = [map_uri(reading.maps[:, number].mean(0))]
        uris += [map_uri(of_step[step]) if step in of_step else "" for step in steps]
        share = float(reading.maps[:, number].mean())
        buttons.append(
            f'<button type="button" class="ls-word" aria-pressed="false" '
            f'title="{text.INSIDE_SHARE.format(share=share)}" '
            f"data-maps='{escape(json.dumps(uris))}'>{escape(word.text)}</button>"
        )
    whole = len(reading.steps) == len(steps)
    when = "" if whole else text.INSIDE_STEPS.format(first=reading.steps[0], last=reading.steps[-1])
    return f'<p class="ls-words-of">{"".join(buttons)}<small>{when}</small></p>'


def likeness_words(image: Image.Image, original: Image.Image | None) -> str:
    """How close the picture drawn again is to the one that it is of."""
    if original is None:
        return text.INSIDE_FROM_FORM
    if original.size != image.size:
        return text.INSIDE_OTHER_SIZE
    differs = np.abs(np.asarray(image.convert("RGB"), int) - np.asarray(original.convert("RGB"), int))
    if not differs.any():
        return text.INSIDE_IDENTICAL
    psnr = 10 * np.log10(255**2 / np.mean(differs.astype(float) ** 2))
    return text.INSIDE_LIKENESS.format(psnr=psnr, most=int(differs.max()))


def row(pictures: Sequence[tuple[Image.Image, str]], smooth: bool = True) -> str:
    """Pictures side by side, each with a word below."""
    cells = "".join(
        f'<figure><img src="{picture_uri(image)}" alt="{escape(words)}">'
        f"<figcaption>{escape(words)}</figcaption></figure>"
        for image, words in pictures
    )
    return f'<div class="ls-row{"" if smooth else " ls-sharp"}">{cells}</div>'


def step_view(recording: "Recording", step: int) -> str:
    """A step's noisy latents, the clean ones predicted, and their difference, as small pictures."""
    from pipelines.inside.views import step_pictures

    event = recording.event(step)
    words = (text.STEP_NOISY, text.STEP_CLEAN, text.STEP_DIFFERENCE)
    pictures = step_pictures(event, recording.preview)
    level = text.STEP_LEVEL.format(step=event.step, total=event.total, sigma=event.sigma)
    return f'<p class="ls-quiet">{level}</p>{row(list(zip(pictures, words, strict=True)))}'


def channels_view(recording: "Recording", step: int) -> str:
    """The channels of the clean latents that a step predicted."""
    from pipelines.inside.views import channel_pictures

    latents = recording.event(step).denoised
    assert latents is not None
    names = [text.CHANNEL.format(number=number) for number in range(1, latents.shape[1] + 1)]
    return row(list(zip(channel_pictures(latents), names, strict=True)), smooth=False)


def walk_view(frames: Sequence[Image.Image]) -> str:
    """A walk as a strip, and moving, there and back."""
    there_and_back = [*frames, *frames[-2:0:-1]]
    buffer = io.BytesIO()
    there_and_back[0].save(
        buffer, "WEBP", save_all=True, append_images=there_and_back[1:], duration=WALK_MILLISECONDS, loop=0,
        quality=85,
    )  # fmt: skip
    uri = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    strip = "".join(
        f'<img src="{picture_uri(frame)}" alt="{text.WALK_FRAME.format(number=number)}">'
        for number, frame in enumerate(frames, 1)
    )
    return (
        f'<div class="ls-walk"><figure><img src="{uri}" alt="{text.WALK}"></figure>'
        f'<div class="ls-frames">{strip}</div>'
        f'<a class="ls-link" href="{uri}" download="walk.webp">{text.WALK_DOWNLOAD}</a></div>'
    )


def comparison_table(comparison: "Comparison") -> str:
    """What each autoencoder keeps, and how well."""
    heads = "".join(f"<th>{head}</th>" for head in text.LAB_COLUMNS)
    rows = "".join(
        f"<tr><th>{escape(one.name)}</th><td>{one.factor}</td><td>{one.channels}</td>"
        f"<td>{one.numbers:.3g}{'' if one.bits is None else f' ({one.bits:.3g} bit)'}</td>"
        f"<td>{one.psnr_db:.1f} dB</td><td>{one.ssim:.3f}</td></tr>"
        for one in comparison.reconstructions
    )
    return f'<table class="ls-lab"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def progress(view: JobView) -> str:
    """How far a look is, or why it ended without anything to see."""
    if view.state is JobState.DONE:
        return ""
    if view.over:
        words = {JobState.CANCELLED: text.INSIDE_STOPPED, JobState.INTERRUPTED: text.INTERRUPTED_LOOK}.get(
            view.state, view.error or text.STATUS_FAILED
        )
        failed = " ls-error" if view.state is JobState.FAILED else ""
        return f'<p class="ls-words{failed}"><span>{escape(words)}</span></p>'
    percent = round(100 * view.fraction)
    words = text.LOADING if view.engine is None else text.LOOKING
    if view.state is JobState.QUEUED:
        words = text.QUEUED.format(position=view.position) if view.position > 1 else text.QUEUED_NEXT
    unknown = "" if view.event is not None else " ls-unknown"
    return (
        f'<div class="ls-bar{unknown}" role="progressbar" aria-label="{text.LOOKING}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent}"><span style="width:{percent}%"></span></div>'
        f'<p class="ls-words"><span>{escape(words)}…</span><span>{percent} %</span></p>'
    )
