import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.metrics import Metrics, Series, thinned

finite = st.floats(-1e6, 1e6)


def lines(*records: dict[str, object]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


def test_lines_are_taken_in_as_they_come_and_torn_ones_when_they_are_whole(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    metrics = Metrics(file)
    metrics.read()
    assert metrics.series("loss") is None
    file.write_text(lines({"step": 1, "loss": 2.0}) + '{"step": 2, "lo')
    metrics.read()
    assert metrics.series("loss").values.tolist() == [2.0]  # type: ignore[union-attr]
    with file.open("a") as more:
        more.write('ss": 1.5}\nno json\n[1]\n{"loss": 9}\n{"step": 3, "loss": NaN}\n')
    metrics.read()
    series = metrics.series("loss")
    assert series is not None
    assert (series.steps.tolist(), series.values.tolist()) == ([1, 2], [2.0, 1.5])


@pytest.mark.parametrize("replaced", [True, False])
def test_a_log_that_was_rewound_is_read_anew(tmp_path: Path, replaced: bool) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(lines({"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}))
    metrics = Metrics(file)
    metrics.read()
    if replaced:  # by another file of the same length
        new = tmp_path / "new"
        new.write_text(lines({"step": 1, "loss": 2.0}, {"step": 2, "loss": 3.0}))
        new.replace(file)
    else:
        file.write_text(lines({"step": 1, "loss": 2.0}))
    metrics.read()
    assert metrics.series("loss").values.tolist() == ([2.0, 3.0] if replaced else [2.0])  # type: ignore[union-attr]


def test_the_mean_over_levels_of_noise(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(
        lines(
            {"step": 5, "validation_loss_t0.1": 1.0, "validation_loss_t0.9": 3.0},
            {"step": 9, "validation_loss_t0.1": 0.5, "validation_loss_t0.9": 1.5},
        )
    )
    metrics = Metrics(file)
    metrics.read()
    series = metrics.mean_of("validation_loss_")
    assert series is not None
    assert (series.steps.tolist(), series.values.tolist()) == ([5, 9], [2.0, 1.0])
    assert metrics.mean_of("nothing") is None


def test_a_hundred_thousand_lines_are_read_once(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(lines(*({"step": step, "loss": 1 / step, "speed": 3.0} for step in range(1, 100_001))))
    metrics = Metrics(file)
    metrics.read()
    series = metrics.series("loss")
    assert series is not None
    assert len(series.steps) == 100_000
    assert len(thinned(series).steps) <= 240
    begin = time.thread_time()  # which no thread that an earlier test left behind adds to
    for _ in range(20):
        metrics.read()
    assert (time.thread_time() - begin) / 20 < 0.01


@given(st.lists(finite, min_size=1, max_size=2000), st.integers(2, 300))
def test_thinning_keeps_ends_order_and_bounds(values: list[float], most: int) -> None:
    series = Series(np.arange(1.0, len(values) + 1), np.array(values))
    few = thinned(series, most)
    assert len(few.steps) == min(most, len(values))
    assert few.steps[-1] == len(values)
    assert few.values[-1] == values[-1]
    assert (np.diff(few.steps) > 0).all()
    slack = 1e-6 * max(1.0, np.abs(series.values).max())
    assert few.values.min() >= min(values) - slack
    assert few.values.max() <= max(values) + slack
