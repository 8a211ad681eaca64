"""`data check`: what of a dataset will be trained on, and every file that will not be, with the reason."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from training.data.entries import Skipped
from training.data.index import open_index


def main(path: str) -> int:
    """Decode every picture anew and print the verdict on every file that is skipped, then a summary.

    Raises: DataError when not one picture can be used.
    """

    def tell(skipped: Skipped) -> None:
        inside = Path(skipped.name).is_relative_to(Path(path).absolute())
        print(f"skipped {os.path.relpath(skipped.name, path) if inside else skipped.name}: {skipped.reason}")

    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        index = open_index(path, Path(folder), tell)
        print(
            f"{len(index)} pictures will be used, with {index.caption_count - 1} captions; "
            f"{index.skipped_count} files skipped"
        )
        for split, count in sorted(index.splits().items()):
            if split:
                print(f"  {split}: {count}")
    return 0
