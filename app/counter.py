"""The lines below the prompt: its tokens, which words are not read or not known, and what may be a slip."""

import functools
import logging
import threading
from collections.abc import Sequence
from html import escape
from pathlib import Path

from app import chinese, text
from models.errors import StudioError
from models.folder_check import folder_state
from pipelines.prompt.chunks import Tokens, count_tokens
from pipelines.prompt.compose import split_composition
from pipelines.prompt.embeddings import without_names
from pipelines.prompt.expand import PromptFiles, expand_texts
from pipelines.prompt.styles import find_style
from pipelines.prompt.unknown import unknown_words
from pipelines.request import MAX_PROMPT_CHARACTERS

MAX_CUT_CHARACTERS = 120
logger = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()  # a tokenizer keeps settings from call to call


def token_line(
    model: Path, prompt: str, styles: Sequence[str], seed: int, steps: int, files: PromptFiles
) -> str:
    """The count of a prompt as HTML, with the words that this seed draws; nothing where there is none."""
    if not prompt.strip() or len(prompt) > MAX_PROMPT_CHARACTERS or not model.exists():
        return ""
    try:
        wildcards, named = files.wildcards(), files.styles() if styles else {}
        drawn, _ = expand_texts(prompt, "", [find_style(named, name) for name in styles], seed, wildcards)
        with _one_at_a_time:
            tokens = _tokens(model, folder_state(model))
            if tokens is None:
                return ""
            drawn = drawn[:MAX_PROMPT_CHARACTERS]
            learned = {name: file.vectors for name, file in files.embeddings.in_words(drawn).items()}
            counted = count_tokens(drawn, tokens, steps, learned=learned)
            unknown = unknown_words(without_names(drawn, learned), tokens, steps)
        read = chinese.read(model, prompt)
    except (StudioError, OSError) as error:
        logger.warning("the tokens of a prompt cannot be counted: %s", error)
        return ""
    notes = [text.NO_WILDCARD.format(name=name) for name in wildcards.unknown(f"{prompt} {drawn}")]
    terms = split_composition(drawn)
    if len(terms) == 1 and terms[0][1] != 1:
        notes.append(text.END_IS_WEIGHT.format(weight=f"{terms[0][1]:g}"))
    notes += word_notes(unknown, read)
    if learned:
        notes.append(text.EMBEDDINGS_READ.format(names=_short(", ".join(learned))))
    words = text.TOKENS.format(count=counted.count, limit=counted.limit)
    if counted.cut:
        notes.insert(0, text.TOKENS_CUT.format(words=_short(counted.cut)))
    marks = "".join(f'<span class="ls-cut">{escape(note)}</span>' for note in notes)
    line = f'<p class="ls-tokens"><span>{escape(words)}</span>{marks}</p>'
    return line if read is None else line + _caption(read.caption)


def word_notes(unknown: Sequence[str], read: chinese.Read | None) -> list[str]:
    """What is said of words that the model does not know, and of what becomes of them in its own words."""
    lists: tuple[tuple[str, Sequence[str]], ...] = ((text.UNKNOWN_WORDS, unknown),)
    if read is not None:
        lists += ((text.NOT_TRANSLATED, read.left_out), (text.NOT_LEARNED, read.untaught))
    return [words.format(words=_short(", ".join(listed))) for words, listed in lists if listed]


def _caption(caption: str) -> str:
    """The prompt in the model's own words, with a button that static/language.js answers."""
    words = escape(caption)
    return (
        f'<p class="ls-reads"><span>{text.READS_AS}</span> <b lang="en">{words}</b> '
        f'<button type="button" class="ls-chip" data-caption="{words}">{text.READ_SO}</button></p>'
    )


def _short(words: str) -> str:
    return words if len(words) <= MAX_CUT_CHARACTERS else f"{words[: MAX_CUT_CHARACTERS - 1]}…"


@functools.lru_cache(maxsize=4)
def _tokens(model: Path, _state: object) -> Tokens | None:
    return Tokens.from_folder(model)
