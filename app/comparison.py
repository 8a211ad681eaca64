"""A comparison as the queue has it: axes, the models they name, and the pieces that are drawn one by one."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.errors import RequestError
from pipelines.compare.axes import Axis, Cell, axes_from_json, axes_to_json, cells
from pipelines.request import GenerationRequest


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a job compares; `models` are the folders of the models, or checkpoints, that an axis names."""

    axes: tuple[Axis, ...]
    models: Mapping[str, Path]

    def cells(self, request: GenerationRequest) -> list[Cell]:
        """The pictures; RequestError where one of them cannot be asked for."""
        return cells(request, self.axes)

    @contextmanager
    def folders(self) -> Iterator[Callable[[str], Path]]:
        """In `with`, the model folder of a name on an axis, made where it is a checkpoint's.

        There is one such folder at a time, since the cells of a checkpoint are drawn one after another, and
        none in the end. The function raises StudioError for a checkpoint that is gone or damaged.
        """
        made: dict[str, Path] = {}

        def forget() -> None:
            while made:
                shutil.rmtree(made.popitem()[1], ignore_errors=True)

        def folder_of(name: str) -> Path:
            if all(axis.field != "checkpoint" for axis in self.axes):
                return self.models[name]
            if name not in made:
                from training.export import export_checkpoint

                forget()
                run, checkpoint = self.models[name].parents[1], self.models[name]
                step = int(checkpoint.name.removeprefix("step-"))
                made[name] = export_checkpoint(run, step, run.parent / "cache" / "compared")
            return made[name]

        try:
            yield folder_of
        finally:
            forget()

    def to_json(self) -> str:
        """One line of JSON, for the row of a job."""
        models = {name: str(path) for name, path in self.models.items()}
        return json.dumps({"axes": axes_to_json(self.axes), "models": models}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Comparison":
        """Read what `to_json` wrote; RequestError if it is not that."""
        try:
            values = json.loads(text)
            axes = axes_from_json(values["axes"])
            return cls(tuple(axes), {name: Path(path) for name, path in values["models"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RequestError("The comparison cannot be read; make it anew.") from error


def runs_that_draw() -> dict[str, Path]:
    """The training runs, by name, that have exported a model: it draws, and so do their checkpoints."""
    from training.runs import exported_models

    return {model.parent.name: model.parent.resolve() for model in exported_models()}
