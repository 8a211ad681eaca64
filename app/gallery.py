"""The HTML of the History tab: the pictures that were found, one of them large, what a dropped file says.

Prompts and other programs' words are escaped here.
"""

from collections.abc import Collection, Sequence
from html import escape

from app import text
from app.picture import Picture
from app.stage import picture_facts, picture_url, picture_words, use_button
from pipelines.metadata.settings import PictureSettings

MAX_SHOWN_CHARACTERS = 600
# Which picture is open, and which boxes are ticked, the browser shows at once; a box tells of the whole page,
# so that of many quick ticks the last one has them all.
GRID = """
element.addEventListener('click', event => {
  const target = event.target.closest('[data-id]');
  if (!target) return;
  const cells = element.querySelectorAll('[data-id]');
  for (const cell of cells) cell.setAttribute('aria-pressed', cell === target);
  trigger('select', {id: target.dataset.id});
});
element.addEventListener('change', event => {
  const boxes = [...element.querySelectorAll('[data-pick]')];
  const names = chosen => chosen.map(box => box.dataset.pick);
  trigger('input', {shown: names(boxes), picked: names(boxes.filter(box => box.checked))});
});
"""


def grid(pictures: Sequence[Picture], opened: str, picked: Collection[str]) -> str:
    """Pictures as buttons, each with a box to choose it."""
    return f'<div class="ls-found">{"".join(_cell(p, opened, picked) for p in pictures)}</div>'


def opened(picture: Picture | None) -> str:
    """A picture large, its prompt, and each of its settings as a button that uses it alone."""
    if picture is None:
        return f'<p class="ls-quiet">{text.OPEN_ONE}</p>'
    words = escape(picture_words(picture))
    facts = picture_facts(picture)
    listed = "".join(
        f"<div><dt>{text.DETAILS[name]}</dt><dd>{use_button(name, text.DETAILS[name], value)}</dd></div>"
        for name, value in facts.items()
        if value
    )
    prompt = picture.request.prompt
    if prompt:
        prompt = f'<p class="ls-prompt">{use_button("prompt", text.PROMPT, prompt)}</p>'
    return (
        f'<img class="ls-large" src="{escape(picture_url(picture.path))}" alt="{words}">'
        f'<div class="ls-details">{prompt}<dl>{listed}</dl></div>'
    )


def read_file(settings: PictureSettings | None) -> str:
    """What was read of a dropped picture, and what of it cannot be used."""
    if settings is None:
        return f'<p class="ls-error">{text.DROP_NOTHING}</p>'
    rows = {
        text.OPTION_NAMES.get(name, name.capitalize()): f"{value:g}" if isinstance(value, float) else value
        for name, value in settings.options.items()
    }
    if settings.model_name:
        rows[text.MODEL] = settings.model_name
    parts = [f"<h3>{escape(text.DROP_PROGRAM.format(program=settings.program))}</h3>", _list(rows)]
    if settings.left:
        parts += [f"<h3>{text.DROP_LEFT}</h3>", _list(dict(settings.left))]
    return f'<div class="ls-read ls-details">{"".join(parts)}</div>'


def _cell(picture: Picture, opened: str, picked: Collection[str]) -> str:
    words = escape(picture_words(picture))
    name, pressed = escape(picture.id), "true" if picture.id == opened else "false"
    mark = f'<span class="ls-star" role="img" aria-label="{text.FAVOURITE_MARK}">★</span>'
    checked = " checked" if picture.id in picked else ""
    return (
        '<div class="ls-pick">'
        f'<button type="button" class="ls-cell" data-id="{name}" aria-pressed="{pressed}" title="{words}">'
        f'<img src="{escape(picture_url(picture.path))}" alt="{words}" loading="lazy"></button>'
        f"{mark if picture.favourite else ''}"
        f'<input type="checkbox" data-pick="{name}" aria-label="{text.CHOOSE}: {words}"{checked}></div>'
    )


def _list(rows: dict[str, object]) -> str:
    listed = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value)[:MAX_SHOWN_CHARACTERS])}</dd></div>"
        for name, value in rows.items()
        if value != ""
    )
    return f"<dl>{listed}</dl>"
