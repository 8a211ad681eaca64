"""The models that the page offers, which may become more while the server runs."""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import overload

from app import text
from app.cards import ModelCard, read_card
from app.hub import fetched, models_folder
from models.errors import ModelError
from models.folder_check import check_model_folder, find_models, folder_state
from pipelines.files import write_whole

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A model folder of the list, as it was when `state` was taken of it; `changed` is in Unix seconds.

    `trouble` says why nothing can be drawn with it now; `added` ones may be removed.
    """

    folder: Path
    state: object
    card: ModelCard | None
    added: bool
    trouble: str = ""
    changed: float | None = None


class ModelList(Sequence[ModelCard]):
    """The cards of the folders that can be drawn with, in the order in which they came; for all threads.

    Those that were added are written to `file`, and are there again after a restart; those of another server,
    `elsewhere`, have no folder.
    """

    def __init__(
        self, folders: Iterable[Path], file: Path | None = None, elsewhere: Iterable[ModelCard] = ()
    ) -> None:
        self._file = file
        self._changing = Lock()
        self._listed = {folder: _read(folder, added=False) for folder in folders}
        for listed in self._listed.values():
            if listed.trouble:
                raise ModelError(listed.trouble)
        for card in elsewhere:
            self._listed[card.path] = Listed(folder=card.path, state=(), card=card, added=False)
        for folder in _remembered(file):
            self._listed.setdefault(folder, _read(folder, added=True))

    @property
    def listed(self) -> list[Listed]:
        """Every folder of the list, also those that nothing can be drawn with."""
        return list(self._listed.values())

    @property
    def _cards(self) -> list[ModelCard]:
        cards: dict[str, ModelCard] = {}  # by name: a later one of the same name goes by its path
        for card in (one.card for one in self.listed if one.card is not None):
            name = str(card.path) if card.name in cards else card.name
            cards[name] = card if name == card.name else replace(card, name=name)
        return list(cards.values())

    @overload
    def __getitem__(self, index: int) -> ModelCard: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ModelCard]: ...
    def __getitem__(self, index: int | slice) -> ModelCard | Sequence[ModelCard]:
        return self._cards[index]

    def __len__(self) -> int:
        return len(self._cards)

    def add(self, folder: Path) -> ModelCard:
        """Offer a folder's model, or read its card anew if it is offered.

        Raises: ModelError if it is none, StudioError if the list cannot be written down.
        """
        check_model_folder(folder)  # first: any other folder may hold millions of files
        state = folder_state(folder)
        card = read_card(folder)
        with self._changing:
            before = self._listed.get(folder)
            added = before is None or before.added
            new = Listed(folder=folder, state=state, card=card, added=added)
            self._keep({**self._listed, folder: new})
        return card

    def remove(self, folder: Path) -> None:
        """Offer a model that was added no longer; its folder stays as it is."""
        with self._changing:
            self._keep({path: one for path, one in self._listed.items() if path != folder or not one.added})

    def look(self) -> None:
        """Read what changed on the disk since the last look."""
        with self._changing:
            for folder, before in list(self._listed.items()):
                if folder_state(folder) != before.state:
                    self._listed[folder] = _read(folder, added=before.added, changed=time.time())

    def _keep(self, listed: dict[Path, Listed]) -> None:
        added = [str(path) for path, one in listed.items() if one.added]
        if self._file is not None and (added or self._file.exists()):
            write_whole(self._file, (json.dumps(added, indent=1) + "\n").encode())
        self._listed = listed


def _read(folder: Path, added: bool, changed: float | None = None) -> Listed:
    state = folder_state(folder)  # before it is read: what is replaced meanwhile is read again next time
    card, trouble = None, ""
    try:
        check_model_folder(folder)
        card = read_card(folder)
    except ModelError as error:
        trouble = str(error) if folder.exists() else text.MODEL_GONE
    return Listed(folder=folder, state=state, card=card, added=added, trouble=trouble, changed=changed)


def _remembered(file: Path | None) -> list[Path]:
    """The folders that a file names, be they there or not; none where it is damaged."""
    if file is not None:
        with suppress(OSError, ValueError, TypeError):
            return [Path(name) for name in json.loads(file.read_text(encoding="utf-8"))]
    return []


def model_folders(asked: Path) -> list[Path]:
    """The model that was asked for, checked, and the good ones of checkpoints/ after it.

    A hub's id is fetched unless it is here. Without any model the page still opens, and says what is
    missing; ModelError when the one asked for is bad.
    """
    asked = fetched(asked.expanduser()).resolve()
    roots = dict.fromkeys((CHECKPOINTS, models_folder().absolute()))
    found = list(dict.fromkeys(folder.resolve() for root in roots for folder in find_models(root)))
    if asked.exists() or asked != CHECKPOINTS / "starter":
        check_model_folder(asked)
        found = [asked, *(folder for folder in found if folder != asked)]
    good = []
    for folder in found:
        try:
            check_model_folder(folder)
        except ModelError as error:
            print(f"Left out: {error}", file=sys.stderr)
        else:
            good.append(folder)
    return good
