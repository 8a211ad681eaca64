"""What AUTOMATIC1111's own parsers answer, tests/fixtures/a1111.json."""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "fixtures" / "a1111.json"


def cases(key: str) -> list[dict[str, Any]]:
    """The cases of one parser."""
    found: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))[key]
    return found
