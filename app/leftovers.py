"""Pictures to start from that nothing needs any more: `outputs/inputs/` would only ever grow."""

import re
import time

from app.database import Database
from app.job import JobState
from pipelines.inputs import InputStore

MIN_AGE_SECONDS = 86_400.0  # a command that is drawing has no row yet, and an open page may ask for it again
_NAME = re.compile(r'"(?:picture|mask)": ?"([0-9a-f]{64})"')


def sweep_inputs(database: Database, inputs: InputStore) -> int:
    """Delete the pictures that neither a kept picture nor a job left undone starts from; how many went."""
    rows = database.read(
        "SELECT request FROM pictures UNION ALL SELECT request FROM jobs WHERE state NOT IN (?, ?, ?)",
        (JobState.DONE, JobState.CANCELLED, JobState.FAILED),
    )
    used = {name for row in rows for name in _NAME.findall(row["request"])}
    oldest = time.time() - MIN_AGE_SECONDS
    unused = [
        path
        for path in inputs.folder.glob("*.png")
        if path.stem not in used and path.stat().st_mtime < oldest
    ]
    for path in unused:
        path.unlink(missing_ok=True)
    return len(unused)
