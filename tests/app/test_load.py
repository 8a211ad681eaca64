"""Thirty-two clients of one real server at once: nothing lost or mixed up, the queue bounded, memory flat.

The figures of docs/reports/load.md: `pytest tests/app/test_load.py -m exhaustive -s`.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.hosts import Hosts
from pipelines.png import read_png
from tests.app.doors import Studio
from tests.app.load import KINDS, Load
from tests.app.test_server import Page, page

__all__ = ["page"]  # the fixture


def kept_of(outputs: Path) -> list[tuple[str, int]]:
    """Prompt and seed of every picture that is kept."""
    files = [file for file in outputs.glob("**/*-*.png") if "cache" not in file.relative_to(outputs).parts]
    return [(one.request.prompt, one.request.seed) for one in map(read_png, files) if one is not None]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("seconds", "more_mib"), [(20, 150), pytest.param(300, 60, marks=pytest.mark.exhaustive)]
)
def test_thirty_two_clients_at_once(
    page: Callable[..., Page], tmp_path: Path, seconds: int, more_mib: int
) -> None:
    # Asked for: `auto` prepares OpenVINO meanwhile, and its graphs come into memory some time under the load.
    running = page("--engine", "openvino")
    url = running.ready()
    running.timer.cancel()  # which ends a server that does not start
    port = int(url.rstrip("/").rpartition(":")[2])
    studio = Studio(port, None, Hosts("127.0.0.1"))
    load = Load(studio, running.process, seconds)
    assert sum(KINDS.values()) == 32
    load._program("warm up", 1, None, None)  # type: ignore[arg-type]
    load.run()
    assert load.broken == []
    assert running.process.poll() is None

    # What the page took in is drawn, each once, but for what its own visitor stopped.
    changed, drawn = time.monotonic(), kept_of(tmp_path / "outputs")
    while len(drawn) < len(load.accepted) and time.monotonic() < changed + 15:  # what was stopped never comes
        time.sleep(1)
        if len(now := kept_of(tmp_path / "outputs")) > len(drawn):
            changed, drawn = time.monotonic(), now
    assert len(drawn) == len(set(drawn))
    assert set(drawn) <= set(load.accepted)
    lost = len(load.accepted) - len(drawn)
    assert lost <= 9 * load.counts["stopped on the page"]  # each stops at most what a person may have waiting
    assert load.counts["drawn for programs"] > 0
    assert load.counts["told that the queue is full"] > 0

    first, last = load.median_rss_mib(0.2, 0.4), load.median_rss_mib(0.8, 1.0)
    waits = sorted(load.waits)
    figures = {
        **load.counts,
        "kept of the page": len(drawn),
        "median wait of a program, seconds": round(waits[len(waits) // 2], 2),
        "longest wait of a program, seconds": round(waits[-1], 2),
        "MiB from 20 to 40 % of the time": round(first),
        "MiB in the last fifth": round(last),
    }
    print(json.dumps(figures, indent=1))
    assert last - first < more_mib
    load._program("after all that", 2, None, None)  # type: ignore[arg-type]
    assert load.broken == []
