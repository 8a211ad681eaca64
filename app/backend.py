"""The models of another server, as this page offers them: `ui --backend URL`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from app import text
from app.cards import MAX_EXAMPLE_CHARACTERS, MAX_EXAMPLES, ModelCard, usable
from app.commands.options import BACKEND_JOBS
from app.settings import Settings
from models.defaults import GenerationDefaults
from models.errors import ModelError, StudioError
from pipelines.http_engine import HttpEngine
from pipelines.inputs import InputStore
from pipelines.remote_server import EVERYTHING, RemoteServer

UNKNOWN_SIDE_PIXELS = 1024  # where a server does not say what its models draw best


class Backend:
    """What another server draws with, and the engines that ask it. StudioError where it cannot be reached.

    `jobs_at_once` of this page's are under way there: its own queue takes them, or its replicas share them.
    """

    def __init__(self, server: RemoteServer, settings: Settings, jobs_at_once: int = BACKEND_JOBS) -> None:
        self.server, self.jobs_at_once, self._settings = server, jobs_at_once, settings
        # Paths of no folder: a model is told by its path in jobs, forms and defaults.
        place = settings.outputs / "backend"
        self.cards: dict[Path, ModelCard] = {}
        self._ours: set[Path] = set()
        for entry in server.models():
            path = place / quote(entry["id"], safe="")
            with server.understanding():
                self.cards[path] = _card(entry, path, server.name)
            if EVERYTHING in entry:
                self._ours.add(path)
        if not self.cards:
            raise StudioError(f"{server.name} has no model to draw with.")

    def open_engine(self, path: Path) -> HttpEngine:
        """The engine of a model; ModelError for one of this machine."""
        card = self.cards.get(path)
        if card is None:
            raise ModelError(text.BACKEND_ONLY.format(server=self.server.name))
        return HttpEngine(
            self.server,
            card.name,
            shows_steps=path in self._ours,
            files=self._settings.prompt_files if card.words else None,
            inputs=InputStore(self._settings.inputs),
        )


def waiting_words(engine: object) -> str | None:
    """What is said while another server has told of no step yet; None for an engine of this machine."""
    if not isinstance(engine, HttpEngine):
        return None
    words = text.WAITING_THERE if engine.shows_steps else text.NO_STEPS_THERE
    return words.format(server=engine.server.name)


def _card(entry: dict[str, Any], path: Path, server: str) -> ModelCard:
    ours: dict[str, Any] = entry.get(EVERYTHING) or {}
    made_for: Callable[..., GenerationDefaults] = GenerationDefaults
    given = dict(ours.get("defaults") or {"width": UNKNOWN_SIDE_PIXELS, "height": UNKNOWN_SIDE_PIXELS})
    student = given.pop("instant", None)
    distilled = bool(ours.get("distilled"))
    try:
        instant = usable(made_for(**student), path, distilled) if student else None
        defaults = usable(made_for(**given, instant=instant), path, distilled)
    except ModelError as error:
        raise ValueError(str(error)) from error
    return ModelCard(
        name=entry["id"],
        path=path,
        defaults=defaults,
        factor=int(ours.get("factor", 8)),
        distilled=distilled,
        examples=tuple(str(one)[:MAX_EXAMPLE_CHARACTERS] for one in ours.get("examples", ())[:MAX_EXAMPLES]),
        words=bool(ours.get("words", True)),
        elsewhere=server,
    )
