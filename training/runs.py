"""Where the folders of trainings lie. No torch: the page and the doctor ask, too."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FINISHED = "finished.json"  # in the folder of a training that came to its end


def runs_folder() -> Path:
    """Where runs lie: $LATENT_STUDIO_RUNS, else runs/."""
    return Path(os.environ.get("LATENT_STUDIO_RUNS", "runs")).expanduser()


def exported_models() -> list[Path]:
    """The model folders that trainings have written, in order of their runs' names."""
    return [index.parent for index in sorted(runs_folder().glob("*/model/model_index.json"))]


@contextmanager
def nothing_kept(dry_run: bool) -> Iterator[None]:
    """In a dry run, have `runs_folder()` be a temporary one within it, which knows what datasets hold."""
    if not dry_run:
        yield
        return
    indexes = list((runs_folder() / "cache").glob("index-*.sqlite"))
    kept = os.environ.get("LATENT_STUDIO_RUNS")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows keeps open files
        cache = Path(folder) / "cache"
        cache.mkdir()
        for index in indexes:
            with suppress(OSError):  # where links are not allowed it is made anew
                (cache / index.name).symlink_to(index.absolute())
        os.environ["LATENT_STUDIO_RUNS"] = folder
        try:
            yield
        finally:
            del os.environ["LATENT_STUDIO_RUNS"]
            if kept is not None:
                os.environ["LATENT_STUDIO_RUNS"] = kept
