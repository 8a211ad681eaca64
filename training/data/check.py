"""`data check`: what of a folder will be trained on, and every file that will not be, with the reason."""

from collections import Counter
from pathlib import Path

from models.errors import DataError
from training.data.pictures import read_folder


def main(folder: Path) -> int:
    """Print the verdict on every file that is skipped and a summary.

    Raises: DataError when not one picture can be used.
    """
    usable, skipped = read_folder(folder)
    for one in skipped:
        print(f"skipped {one.file.relative_to(folder)}: {one.reason}")
    if not usable:
        raise DataError(f"{folder} has no usable picture among {len(skipped)} files")
    captions = {caption for entry in usable for caption in entry.captions}
    print(f"{len(usable)} pictures will be used, with {len(captions)} captions; {len(skipped)} files skipped")
    for split, count in sorted(Counter(entry.split for entry in usable if entry.split).items()):
        print(f"  {split}: {count}")
    return 0
