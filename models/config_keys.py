"""Keys of a model's config files: those that its class takes, those that would bring code, and all others."""

import logging
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from models.errors import ModelError

logger = logging.getLogger(__name__)

# By these a file has transformers or diffusers fetch code, or import a module that it names.
CODE_KEYS = frozenset({
    "auto_map", "code_revision", "custom_pipeline", "custom_pipelines", "trust_remote_code",
    "_attn_implementation", "_attn_implementation_internal", "_experts_implementation_internal",
})  # fmt: skip
MAX_LAYERS = 256
MAX_NAMED, MAX_KEY_CHARACTERS = 10, 60

_ignored: dict[Path, tuple[str, ...]] = {}  # what was named already, for the page and for not saying it twice


def refuse_code(config: Mapping[str, Any], source: str) -> None:
    """ModelError for a key, however deep, that asks for code of its own."""
    waiting: list[Any] = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key in CODE_KEYS & value.keys():
                raise ModelError(
                    f"{source} has the key {key!r}, which asks for code of its own, and no model may bring "
                    "any here; use another model"
                )
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def checked_config(
    settings: Mapping[str, Any], known: Set[str], ignored: Set[str], source: Path
) -> dict[str, Any]:
    """The entries of a config file that its class takes; a key in neither set is named in the log, once.

    Raises ModelError for a key that asks for code, and for counts of layers above MAX_LAYERS: they would keep
    the machine busy before any shape is compared.
    """
    refuse_code(dict(settings), str(source))
    for key, value in settings.items():
        values = value if isinstance(value, list) else [value]
        if "layer" in key and any(type(v) in (int, float) and v > MAX_LAYERS for v in values):
            raise ModelError(f"{source}: {key} = {value} is more than {MAX_LAYERS}; use another model")
    unknown = tuple(sorted(key[:MAX_KEY_CHARACTERS] for key in settings.keys() - known - ignored))
    if _ignored.get(source, ()) != unknown:
        _ignored[source] = unknown
        if unknown:
            logger.warning("%s has keys that are not known here and are ignored: %s", source, named(unknown))
    return {key: value for key, value in settings.items() if key in known}


def ignored_keys(folder: Path) -> dict[Path, tuple[str, ...]]:
    """The keys that were ignored of each config below a folder, as far as it was loaded by this process."""
    return {file: keys for file, keys in sorted(_ignored.items()) if keys and file.is_relative_to(folder)}


def named(keys: tuple[str, ...]) -> str:
    """Keys as a list for people, no longer than anybody reads."""
    shown = [repr(key) for key in keys[:MAX_NAMED]]
    return ", ".join([*shown, "..."] if len(keys) > MAX_NAMED else shown)
