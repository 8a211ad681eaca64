"""The settings that a person wants a model to begin with, in the place of its own."""

from contextlib import suppress
from pathlib import Path

from app.database import Database, owner_tag
from models.errors import RequestError
from pipelines.request import GenerationRequest


class OwnDefaults:
    """One request for each owner and model, kept through restarts; its prompt and seed do not count."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, owner: str, model: Path, request: GenerationRequest) -> None:
        """Begin with these settings from now on."""
        self._database.write(
            "INSERT OR REPLACE INTO defaults VALUES (?, ?, ?)",
            (owner_tag(owner), str(model), request.to_json()),
        )

    def find(self, owner: str, model: Path) -> GenerationRequest | None:
        """What this owner begins with; None for the model's own defaults."""
        rows = self._database.read(
            "SELECT request FROM defaults WHERE owner = ? AND model = ?", (owner_tag(owner), str(model))
        )
        with suppress(RequestError):  # what an older or newer version could draw
            return GenerationRequest.from_json(rows[0]["request"]) if rows else None
        return None

    def forget(self, owner: str, model: Path) -> None:
        """Begin as the model was made again."""
        self._database.write(
            "DELETE FROM defaults WHERE owner = ? AND model = ?", (owner_tag(owner), str(model))
        )
