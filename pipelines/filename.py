"""File names from a pattern, safe on every file system."""

import re
import time
import unicodedata

from models.names import why_no_name
from pipelines.request import GenerationRequest

DEFAULT_PATTERN = "[date]-[seed]-[prompt]"
MAX_NAME_BYTES = 120  # with an ending and a number within the 143 bytes of the strictest file system
MAX_PART_CHARACTERS = 60
MAX_PATTERN_CHARACTERS = 200


def file_name(pattern: str, request: GenerationRequest, *, model_name: str, created: float) -> str:
    """The name, without an ending, that a pattern gives a picture; never empty.

    Words in brackets stand for what the picture is: date, time, seed, prompt, negative, model, sampler,
    schedule, steps, guidance, size, width, height; other text stays. Letters and digits of any script,
    `-` and `_` are kept, all else becomes `-`, so that a name is one file in one folder. `created` is Unix
    seconds.
    """
    moment = time.localtime(created)
    known = {
        "date": time.strftime("%Y-%m-%d", moment),
        "time": time.strftime("%H%M%S", moment),
        "seed": str(request.seed),
        "prompt": request.prompt,
        "negative": request.negative_prompt,
        "model": model_name,
        "sampler": request.sampler,
        "schedule": request.schedule,
        "steps": str(request.steps),
        "guidance": f"{request.guidance_scale:g}",
        "size": f"{request.width}x{request.height}",
        "width": str(request.width),
        "height": str(request.height),
    }
    name = re.sub(
        r"\[(\w{1,20})\]",
        lambda word: _safe(known.get(word[1].casefold(), word[1])[:1000])[:MAX_PART_CHARACTERS],
        pattern[:MAX_PATTERN_CHARACTERS],
    )
    name = _safe(name).encode()[:MAX_NAME_BYTES].decode("utf-8", "ignore").strip("-")
    if not name:
        return str(request.seed)
    return f"_{name}" if why_no_name(name) else name


def _safe(text: str) -> str:
    kept = [
        character if character in "-_" or unicodedata.category(character)[0] in "LMN" else "-"
        for character in unicodedata.normalize("NFKC", text)
    ]
    return re.sub("-+", "-", "".join(kept)).strip("-")
