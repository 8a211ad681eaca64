"""What the header of a LoRA file tells a person: the family it was made for and the words it learned.

It is text that strangers wrote: read as data, and only so much of it.
"""

import json
from collections import Counter
from collections.abc import Mapping

MAX_TEXT_CHARACTERS = 4_000_000  # of one entry; the tags of a large dataset stay far below
MAX_WORDS, MAX_WORD_CHARACTERS = 12, 80
# By how entries of kohya's scripts and of the model spec begin; the longer beginning first.
FAMILIES = {
    "sd_v1": "Stable Diffusion 1",
    "stable-diffusion-v1": "Stable Diffusion 1",
    "sd_v2": "Stable Diffusion 2",
    "stable-diffusion-v2": "Stable Diffusion 2",
    "sdxl": "Stable Diffusion XL",
    "stable-diffusion-xl": "Stable Diffusion XL",
    "sd3": "Stable Diffusion 3",
    "stable-diffusion-3": "Stable Diffusion 3",
    "flux": "FLUX",
}
# By the width of the token states that cross-attention reads.
FAMILIES_BY_WIDTH = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}


def read_family(metadata: Mapping[str, str]) -> str:
    """The family of models that a file says it was made for; "" where it does not say."""
    for key in ("ss_base_model_version", "modelspec.architecture"):
        said = metadata.get(key, "").lower()
        for beginning, family in FAMILIES.items():
            if said.startswith(beginning):
                return family
    return ""


def read_rank(metadata: Mapping[str, str]) -> int | None:
    """The rank that a file says it has."""
    said = metadata.get("ss_network_dim", "")
    return int(said) if said.isascii() and said.isdigit() and 0 < len(said) < 6 and int(said) > 0 else None


def read_words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """What to ask a LoRA for: the words that its file names for that, else the commonest of its captions."""
    said = metadata.get("modelspec.trigger_phrase", "").strip()
    if said:
        return bounded([said])
    counts: Counter[str] = Counter()
    try:
        folders = json.loads(metadata.get("ss_tag_frequency", "{}")[:MAX_TEXT_CHARACTERS])
    except (ValueError, RecursionError):
        return ()
    for tags in folders.values() if isinstance(folders, dict) else ():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if type(count) is int and count > 0 and tag.strip():
                counts[tag.strip()] += count
    return bounded([tag for tag, _ in counts.most_common(MAX_WORDS)])


def bounded(words: list[object]) -> tuple[str, ...]:
    """The texts of a list that a stranger wrote: the first of them, in one line, each of bounded length."""
    texts = [" ".join(word.split()) for word in words[:MAX_WORDS] if isinstance(word, str)]
    return tuple(
        text if len(text) <= MAX_WORD_CHARACTERS else f"{text[: MAX_WORD_CHARACTERS - 1]}…"
        for text in texts
        if text
    )
