import re
from xml.etree import ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.curves import HEIGHT, WIDTH, Axis, Curve, plot
from app.metrics import Series

values = st.floats(-1e9, 1e9).map(lambda value: float(np.float32(value)))


def curve(numbers: list[float], name: str = "mine", place: int = 0) -> Curve:
    return Curve(name, Series(np.arange(1.0, len(numbers) + 1), np.array(numbers, float)), place)


def points_of(html: str) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, pair.split(","))) for pair in points.split()]  # type: ignore[misc]
        for points in re.findall(r'points="([^"]*)"', html)
    ]


@given(st.lists(values, min_size=1, max_size=50), st.booleans())
def test_whatever_is_drawn_lies_in_the_frame_and_is_well_formed(numbers: list[float], log: bool) -> None:
    html = plot("Loss", [curve(numbers)], log)
    ElementTree.fromstring(html)
    (points,) = points_of(html)
    assert len(points) == len(numbers)
    assert all(-0.1 <= x <= WIDTH + 0.1 and -0.1 <= y <= HEIGHT + 0.1 for x, y in points)
    if max(numbers) - min(numbers) > 1e-3 * abs(max(numbers)) and not log:
        assert points[int(np.argmax(numbers))][1] <= points[int(np.argmin(numbers))][1]  # up is more


@given(st.floats(1e-6, 1e6), st.floats(1.001, 1e6), st.booleans())
def test_ticks_are_few_and_within(low: float, ratio: float, log: bool) -> None:
    axis = Axis.over(np.array([low, low * ratio]), log)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 6
    assert all(axis.low * (1 - 1e-9) <= tick <= axis.high * (1 + 1e-9) for tick in ticks)


def test_equal_ratios_are_equal_ways_on_a_logarithmic_scale() -> None:
    (points,) = points_of(plot("Loss", [curve([100, 10, 1])], log=True))
    heights = [y for _, y in points]
    assert heights[1] - heights[0] == heights[2] - heights[1] > 0


def test_two_curves_have_a_legend_and_words_for_who_does_not_see_them() -> None:
    html = plot("Loss", [curve([2, 1, 3], "a<b"), curve([5, 4], "other", 1)])
    label = ElementTree.fromstring(html).find("svg").get("aria-label")  # type: ignore[union-attr]
    assert label is not None
    assert "a<b: from 2 to 3 at step 3, lowest 1 at step 2" in label
    assert "other: from 5 to 4 at step 2" in label
    assert html.count("ls-key-") == 2
    assert "ls-key-" not in plot("Loss", [curve([2, 1])])
    assert plot("Loss", []) == plot("Loss", [curve([])]) == ""
