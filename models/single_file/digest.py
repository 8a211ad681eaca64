"""The SHA-256 of large files, which takes seconds: computed once, and kept while a file stays as it is."""

import json
import os
from contextlib import suppress
from pathlib import Path

from models.weights import sha256
from models.writing import write_json

CACHE_VARIABLE = "LATENT_STUDIO_CACHE"
MAX_KEPT = 1000


def digest_file() -> Path:
    """Where the sums are kept: in $LATENT_STUDIO_CACHE, else in the cache folder of this person."""
    given = os.environ.get(CACHE_VARIABLE)
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "latent-studio"
    return (Path(given) if given else home).expanduser() / "sha256.json"


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file as hex digits; kept while its size and the time of its last change stay."""
    whole, found = path.resolve(), path.stat()
    key = f"{whole}:{found.st_size}:{found.st_mtime_ns}"
    kept: dict[str, str] = {}
    with suppress(OSError, ValueError):
        read = json.loads(digest_file().read_bytes())
        kept = {str(name): str(value) for name, value in read.items()} if isinstance(read, dict) else {}
    if key not in kept:
        kept[key] = sha256(whole)
        with suppress(OSError):  # nothing but time is lost
            write_json(digest_file(), dict(list(kept.items())[-MAX_KEPT:]))
    return kept[key]
