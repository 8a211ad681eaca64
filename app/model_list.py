"""The models that the page offers, which may become more while the server runs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import overload

from app.cards import ModelCard, read_card


class ModelList(Sequence[ModelCard]):
    """The cards of model folders in the order in which they came; for all threads."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._cards = tuple(read_card(folder) for folder in folders)
        self._adding = Lock()

    @overload
    def __getitem__(self, index: int) -> ModelCard: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ModelCard]: ...
    def __getitem__(self, index: int | slice) -> ModelCard | Sequence[ModelCard]:
        return self._cards[index]

    def __len__(self) -> int:
        return len(self._cards)

    def add(self, folder: Path) -> ModelCard:
        """Offer a folder's model, or read its card anew if it is offered; ModelError if it is none."""
        card = read_card(folder)
        with self._adding:
            if folder in [known.path for known in self._cards]:
                self._cards = tuple(card if known.path == folder else known for known in self._cards)
            else:
                self._cards += (card,)
        return card
