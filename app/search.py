"""What is typed into the search box, as a condition on the rows of pictures.

`red apple` finds prompts with both words; `seed:7`, `steps:20-30`, `guidance:5`, `width:128`, `height:64`,
`size:128x64`, `sampler:euler`, `schedule:karras`, `model:"my model"`, `negative:blue` and `date:2026-11` ask
for settings.
"""

import re
import unicodedata

_TERM = re.compile(r'(?:(\w+):)?(?:"([^"]*)"?|([^\s"]+))?')
_NUMBERS = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(?:-([0-9]{1,12}(?:\.[0-9]{1,6})?))?")
_CONTAINS = {
    "negative": "negative",
    "model": "lower(model)",
    "sampler": "lower(sampler)",
    "schedule": "lower(schedule)",
}
_EQUALS = {"seed", "steps", "guidance", "width", "height"}
_DATE = "strftime('%Y-%m-%d', created, 'unixepoch', 'localtime')"
MAX_SEARCH_CHARACTERS, MAX_TERMS = 1000, 40  # far below the variables that SQLite takes


def folded(text: str) -> str:
    """Text as it is compared: letters of either case and width alike."""
    return unicodedata.normalize("NFKC", text).casefold()


def condition(words: str, favourites: bool = False) -> tuple[str, list[object]]:
    """An SQL condition and its values; a setting that no picture can have finds nothing, and never fails."""
    parts, values = ["1"], list[object]()
    if favourites:
        parts.append("favourite")
    terms = [term for term in _TERM.finditer(words[:MAX_SEARCH_CHARACTERS]) if term[0]]
    for term in terms[:MAX_TERMS]:
        key, value = folded(term[1] or ""), folded(term[2] if term[2] is not None else term[3] or "")
        size = re.fullmatch("([0-9]{1,6})[x\N{MULTIPLICATION SIGN}]([0-9]{1,6})", value)
        numbers = _NUMBERS.fullmatch(value)
        if key in _CONTAINS or key in _EQUALS or key in ("size", "date"):
            if not value:  # still being typed
                continue
            if key in _CONTAINS:
                parts.append(f"instr({_CONTAINS[key]}, ?)")
                values.append(value)
            elif key == "date":
                parts.append(f"instr({_DATE}, ?) = 1")
                values.append(value)
            elif key == "size" and size:
                parts.append("width = ? AND height = ?")
                values += [int(size[1]), int(size[2])]
            elif key in _EQUALS and numbers:
                parts.append(f"{key} BETWEEN ? AND ?")
                values += [float(numbers[1]), float(numbers[2] or numbers[1])]
            else:
                parts.append("0")
        else:
            parts.append("instr(words, ?)")
            values.append(folded(term[0].replace('"', "")) if key else value)
    return " AND ".join(parts), values
