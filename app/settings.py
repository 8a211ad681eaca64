"""Where the page keeps its files, and the limits that hold for everyone who uses it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from models.controlnet import controlnets_folder
from models.errors import RequestError
from pipelines.controlnets import ControlNets
from pipelines.prompt.expand import PromptFiles

OUTPUTS_VARIABLE = "LATENT_STUDIO_OUTPUTS"
INPUTS = "inputs"  # the folder in an outputs folder that pictures to start from lie in


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Paths and limits; `from_environment` reads the one variable a person may set."""

    outputs: Path
    queued_jobs_total: int = 64
    queued_jobs_per_owner: int = 8
    models_in_memory: int = 2
    jobs_remembered: int = 200  # finished jobs whose last state a late viewer can still ask for
    outcomes_remembered: int = 12  # what looks into the model found, of all owners together
    previews_per_second: float = 4.0
    live_stands_seconds: float = 5.0  # a picture drawn live that is looked at for so long is kept
    viewers_at_once: int = 24  # each one holds a thread of Gradio's 40; the rest is for answers
    pictures_shown: int = 48

    @classmethod
    def from_environment(cls) -> Self:
        """Outputs lie in the folder that LATENT_STUDIO_OUTPUTS names, or in ./outputs."""
        named = os.environ.get(OUTPUTS_VARIABLE)
        return cls(outputs=Path(named or "outputs").expanduser().resolve())

    @property
    def prompt_files(self) -> PromptFiles:
        """Styles and wildcards: styles.csv and wildcards/ beside the pictures."""
        return PromptFiles(self.outputs)

    @property
    def controlnets(self) -> ControlNets:
        """The ControlNets beside the pictures, or where LATENT_STUDIO_CONTROLNETS says."""
        return ControlNets(controlnets_folder(self.outputs))

    @property
    def inputs(self) -> Path:
        """The pictures and masks that requests start from."""
        return self.outputs / INPUTS

    @property
    def database(self) -> Path:
        """The one SQLite file: jobs, and the index over the pictures."""
        return self.outputs / "studio.sqlite3"

    @property
    def models(self) -> Path:
        """The model folders that were added to the page's list."""
        return self.outputs / "models.json"


def check_writable(folder: Path) -> None:
    """Raise RequestError where pictures cannot be written to `folder`; makes nothing."""
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise RequestError(f"The pictures cannot go to {folder}: {existing} is a file, not a folder.")
    if not os.access(existing, os.W_OK):
        raise RequestError(f"The pictures cannot go to {folder}: {existing} may not be written to.")
