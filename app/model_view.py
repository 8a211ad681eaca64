"""The HTML of the tab Models: a card for each model on the list, and what was found in the runs folder."""

import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

from app import text
from app.cards import ModelCard
from app.measured import measured
from app.model_facts import ModelFacts, read_facts
from app.model_list import Listed
from models.config_keys import ignored_keys, named
from models.errors import ModelError
from models.folder_check import model_name


def model_cards(listed: Sequence[Listed], names: dict[Path, str], chosen: str, may_change: bool) -> str:
    """A card for each model; `names` are those of the models that can be drawn with, `chosen` is a path."""
    cards = [_card(one, names.get(one.folder), str(one.folder) == chosen, may_change) for one in listed]
    return f'<ul class="ls-models">{"".join(cards)}</ul>' if cards else f"<p>{text.NO_MODEL}</p>"


def found_models(found: Sequence[tuple[Path, bool]]) -> str:
    """The models of training runs that are not on the list, and whether each run is finished."""
    if not found:
        return ""
    rows = "".join(
        f"<li><span>{escape(model_name(folder))} "
        f"<small>{text.MODEL_RUN_DONE if finished else text.MODEL_RUN_OPEN}</small></span>"
        f"{_button('offer', folder, text.MODEL_OFFER)}</li>"
        for folder, finished in found
    )
    hint = f'<p class="ls-quiet">{text.MODELS_FOUND_HINT}</p>'
    return f'<section class="ls-runs"><h2>{text.MODELS_FOUND}</h2>{hint}<ul>{rows}</ul></section>'


def _card(listed: Listed, name: str | None, chosen: bool, may_change: bool) -> str:
    facts, trouble = None, listed.trouble
    elsewhere = listed.card.elsewhere if listed.card is not None else ""
    try:
        facts = read_facts(listed.folder) if not (trouble or elsewhere) else None
    except (ModelError, OSError) as error:  # written to at this moment
        trouble = str(error)
    notes = f'<p class="ls-error">{escape(trouble)}</p>' if trouble else ""
    if listed.changed is not None and not trouble:
        when = time.strftime("%H:%M", time.localtime(listed.changed))
        notes = f'<p class="ls-quiet">{text.MODEL_CHANGED.format(time=when)}</p>'
    for file, keys in ignored_keys(listed.folder).items():
        words = text.MODEL_IGNORED.format(file=file.relative_to(listed.folder), keys=named(keys))
        notes += f'<p class="ls-quiet">{escape(words)}</p>'
    badge = f' <span class="ls-badge">{text.MODEL_CHOSEN}</span>' if chosen else ""
    buttons = "" if chosen or name is None else _button("use", listed.folder, text.MODEL_USE)
    if listed.added and may_change:
        buttons += _button("remove", listed.folder, text.MODEL_REMOVE)
    rows = {"folder": f"<code>{escape(str(listed.folder))}</code>"}
    if listed.card is not None and elsewhere:
        rows = {"draws": escape(_draws(listed.card)), "server": escape(elsewhere)}
    if facts is not None and listed.card is not None:
        rows = {key: escape(words) for key, words in _rows(facts, listed.card).items()} | rows
    lines = "".join(f"<dt>{text.MODEL_ROWS[key]}</dt><dd>{words}</dd>" for key, words in rows.items())
    quality = measured(listed.folder, opened=chosen) if facts is not None else ""
    current = ' aria-current="true"' if chosen else ""
    actions = f'<p class="ls-do">{buttons}</p>' if buttons else ""
    heading = f"<h2><span>{escape(name or model_name(listed.folder))}</span>{badge}</h2>"
    return f"<li{current}>{heading}{notes}<dl>{lines}</dl>{quality}{actions}</li>"


def _rows(facts: ModelFacts, card: ModelCard) -> dict[str, str]:
    parts = [
        text.MODEL_PARTS[part].format(count=text.parameters(count))
        for part, count in facts.parameters.items()
        if count
    ]
    kind = {"VQModel": text.MODEL_VQ, "Pixels": text.MODEL_PIXELS}.get(facts.autoencoder, text.MODEL_KL)
    encoder = text.MODEL_ENCODERS.get(facts.text_encoder, facts.text_encoder)
    reads = text.MODEL_WORDS.format(encoder=encoder)
    if not facts.text_encoder:
        reads = text.MODEL_CLASSES.format(count=facts.classes)
    return {
        "draws": _draws(card),
        **({"family": facts.family} if facts.family else {}),
        "parameters": text.MODEL_TOTAL.format(
            total=text.parameters(sum(facts.parameters.values())), parts=", ".join(parts)
        ),
        "predicts": text.MODEL_PREDICTS[facts.prediction],
        "autoencoder": kind.format(factor=facts.factor, channels=facts.channels, codes=facts.codes),
        "reads": text.MODEL_SHOWN.get(facts.shown, "{reads}").format(reads=reads),
        "data": facts.data or text.NOT_SAID,
        "licence": facts.licence or text.NOT_SAID,
        "disk": text.file_size(facts.size_bytes),
    }


def _draws(card: ModelCard) -> str:
    start = card.defaults
    return text.MODEL_DRAWS.format(
        size=text.size(start.width, start.height),
        steps=start.steps,
        sampler=start.sampler,
        guidance=f"{start.guidance_scale:g}",
    )


def _button(action: str, folder: Path, words: str) -> str:
    where = escape(f"{action}:{folder}")
    return f'<button type="button" class="ls-chip" data-id="{where}">{escape(words)}</button>'
