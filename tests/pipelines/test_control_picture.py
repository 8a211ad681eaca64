"""What a ControlNet is shown: edges where a picture has them, and the part that is drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipelines.canny import canny
from pipelines.control_picture import control_picture

GREYS = st.integers(0, 255)


def two_halves(left: int, right: int, column: int, upright: bool) -> NDArray[np.uint8]:
    pixels = np.full((24, 24, 3), left, np.uint8)
    pixels[:, column:] = right
    return pixels if upright else pixels.transpose(1, 0, 2).copy()


@given(GREYS, GREYS, st.integers(3, 21), st.booleans())
def test_a_step_is_one_line_beside_it_where_it_is_high_enough(
    left: int, right: int, column: int, upright: bool
) -> None:
    edges = canny(two_halves(left, right, column, upright))
    lines = edges if upright else edges.T
    # Sobel finds 4 times the step in both columns beside it; of two that are equal the first is kept.
    expected = np.zeros_like(lines)
    expected[:, column - 1] = 4 * abs(left - right) > 200
    assert (lines == expected).all()


@given(st.lists(GREYS, min_size=3, max_size=3))
def test_one_colour_has_no_edges(colour: list[int]) -> None:
    assert not canny(np.full((16, 16, 3), colour, np.uint8)).any()


def test_an_edge_of_one_channel_alone_is_one() -> None:
    pixels = np.full((16, 16, 3), 100, np.uint8)
    pixels[:, 8:, 2] = 200
    assert canny(pixels)[:, 7].all()


def test_a_weak_edge_counts_where_it_joins_a_strong_one() -> None:
    pixels = np.zeros((40, 24, 3), np.uint8)
    pixels[:, 12:] = np.linspace(80, 20, 40).astype(np.uint8)[:, None, None]
    edges = canny(pixels)
    strengths = 4 * np.linspace(80, 20, 40)  # but for what it falls by itself
    found = edges[:, 10:14].any(1)
    assert found[strengths > 110].all()  # of these the ones below 200 by the others alone
    assert not found[strengths < 80].any()
    weak = np.zeros((24, 24, 3), np.uint8)
    weak[:, 12:] = 40  # 160: above the low threshold, and joined to nothing
    assert not canny(weak).any()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_discs_edge_is_a_thin_ring_whichever_way_it_is_turned(turns: int) -> None:
    y, x = np.mgrid[:65, :65] - 32
    disc = np.where(x * x + y * y < 400, 255, 0).astype(np.uint8)
    pixels = np.repeat(disc[..., None], 3, axis=-1)
    edges = canny(pixels)
    distance = np.hypot(x, y)
    assert abs(distance[edges] - 20).max() < 2
    angles = np.floor(np.degrees(np.arctan2(y, x)[edges]) / 6) % 60
    assert len(np.unique(angles)) == 60  # closed
    assert edges.sum() < 2.2 * 2 * np.pi * 20  # thin
    turned = np.rot90(canny(np.rot90(pixels, turns).copy()), -turns)
    assert abs(int(turned.sum()) - int(edges.sum())) <= 0.1 * edges.sum()


@given(st.integers(16, 90), st.integers(16, 90), st.sampled_from([(32, 32), (64, 40)]))
def test_it_is_shown_at_the_size_of_the_drawing(wide: int, high: int, size: tuple[int, int]) -> None:
    picture = Image.linear_gradient("L").resize((wide, high)).convert("RGB")
    for preprocessor in ("none", "canny"):
        seen = control_picture(picture, preprocessor, size)  # type: ignore[arg-type]
        assert (seen.size, seen.mode) == (size, "RGB")


def test_of_a_part_it_is_that_part() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    seen = control_picture(Image.fromarray(pixels), "none", (16, 8), whole=(32, 32), box=(8, 4, 24, 12))
    assert (np.asarray(seen) == pixels[4:12, 8:24]).all()
