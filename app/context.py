"""What every tab of the page is given: the jobs, the library, the models and the limits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.backend import Backend
from app.cards import ModelCard
from app.database import Database, open_database
from app.jobs import Jobs
from app.leftovers import sweep_inputs
from app.library import Library
from app.model_list import ModelList
from app.settings import Settings
from pipelines.engine import Engine
from pipelines.inputs import InputStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Made once by `open_context`, shared by all tabs and all visitors."""

    settings: Settings
    database: Database
    jobs: Jobs
    library: Library
    models: ModelList

    def model(self, named: str | Path | None = None) -> ModelCard | None:
        """The model of this folder or name; the first one when it is unknown, None when there is none."""
        first = self.models[0] if self.models else None
        return next((card for card in self.models if str(named) in (str(card.path), card.name)), first)

    def close(self) -> None:
        """Stop the worker and give the database back."""
        self.jobs.close()
        self.database.close()


def open_context(
    model_folders: Sequence[Path],
    open_engine: Callable[[Path], Engine],
    *,
    settings: Settings | None = None,
    backend: Backend | None = None,
) -> Context:
    """Open the outputs folder and start the worker; the page starts with the first model folder.

    `open_engine` is called in the workers' threads alone: `lambda folder: LocalEngine(folder, device)`.
    With a `backend` another server draws, with its models alone.
    Raises ModelError for a folder whose small files cannot be read.
    """
    settings = settings or Settings.from_environment()
    if backend is None:
        models, workers = ModelList(model_folders, settings.models), 1
    else:
        models, workers = ModelList([], None, backend.cards.values()), backend.jobs_at_once
    database = open_database(settings.database)
    library = Library(settings.outputs, database)
    if database.is_new:
        library.rebuild()
    sweep_inputs(database, InputStore(settings.inputs))
    jobs = Jobs(settings, database, library, open_engine, workers)
    return Context(settings=settings, database=database, jobs=jobs, library=library, models=models)
