"""Named styles: words that are put around or behind a prompt, kept in AUTOMATIC1111's `styles.csv`."""

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import RequestError

MAX_FILE_BYTES = 4_000_000
PLACE = "{prompt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What a style adds; `{prompt}` stands for the prompt, without it the words go behind."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


def read_styles(file: Path) -> dict[str, Style]:
    """The styles of a CSV file with the columns name, prompt and negative_prompt; none if there is no file.

    Raises RequestError for a file that cannot be read.
    """
    try:
        if not file.is_file():
            return {}
        if file.stat().st_size > MAX_FILE_BYTES:
            raise RequestError(f"{file} is larger than {MAX_FILE_BYTES} bytes; keep fewer styles in it.")
        with open(file, encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"The styles in {file} cannot be read ({error}); save it as UTF-8.") from error
    styles = {}
    for row in rows:
        name = (row.get("name") or "").strip()
        if name:
            # The column was called `text` before there were negative prompts.
            prompt = row.get("prompt") or row.get("text") or ""
            styles[name] = Style(name=name, prompt=prompt, negative_prompt=row.get("negative_prompt") or "")
    return styles


def apply_styles(prompt: str, negative_prompt: str, styles: Sequence[Style]) -> tuple[str, str]:
    """The prompt and the negative prompt with the words of these styles, one after the other."""
    for style in styles:
        prompt = _apply(style.prompt, prompt)
        negative_prompt = _apply(style.negative_prompt, negative_prompt)
    return prompt, negative_prompt


def _apply(words: str, prompt: str) -> str:
    if PLACE in words:
        return words.replace(PLACE, prompt)
    # A style that adds nothing must not so much as trim what was typed.
    return ", ".join(part for part in (prompt.strip(), words.strip()) if part) if words.strip() else prompt


def find_style(styles: Mapping[str, Style], name: str) -> Style:
    """A style by name; RequestError names the nearest."""
    if name in styles:
        return styles[name]
    near = difflib.get_close_matches(name, styles, n=1, cutoff=0.0)
    hint = f'did you mean "{near[0]}"?' if near else "there are none yet."
    raise RequestError(f'There is no style "{name[:60]}"; {hint}')


def remove_style(words: str, prompt: str) -> tuple[bool, str]:
    """Whether a prompt has the words of a style on it, and the prompt without them."""
    words, prompt = words.strip(), prompt.strip()
    before, place, after = words.partition(PLACE)
    if place:
        found = (
            len(prompt) >= len(before) + len(after) and prompt.startswith(before) and prompt.endswith(after)
        )
        return (True, prompt[len(before) : len(prompt) - len(after)]) if found else (False, prompt)
    if not words or not prompt.endswith(words):
        return False, prompt
    return True, prompt[: -len(words)].removesuffix(", ")
