"""A comparison as the queue has it: axes, the models they name, and the pieces that are drawn one by one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.errors import RequestError
from pipelines.compare.axes import Axis, Cell, axes_from_json, axes_to_json, cells
from pipelines.request import GenerationRequest


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a job compares; `models` are the folders of the models that an axis names."""

    axes: tuple[Axis, ...]
    models: Mapping[str, Path]

    def cells(self, request: GenerationRequest) -> list[Cell]:
        """The pictures; RequestError where one of them cannot be asked for."""
        return cells(request, self.axes)

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
