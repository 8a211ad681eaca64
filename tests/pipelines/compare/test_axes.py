import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import RequestError
from pipelines.compare.axes import Axis, axes_from_json, axes_to_json, cells, parse_axis
from tests.app.engines import a_request


@pytest.mark.parametrize(
    ("field", "words", "values"),
    [
        ("seed", "1, 2,5", (1, 2, 5)),
        ("steps", "1-5", (1, 2, 3, 4, 5)),
        ("steps", "1-10 (+3), 20", (1, 4, 7, 10, 20)),
        ("steps", "10-1 (-3)", (10, 7, 4, 1)),
        ("steps", "5-3", (5, 4, 3)),
        ("steps", "1-10 [4]", (1, 4, 7, 10)),
        ("guidance_scale", "1-2 (+0.25)", (1.0, 1.25, 1.5, 1.75, 2.0)),
        ("guidance_scale", "0-1[3]", (0.0, 0.5, 1.0)),
        ("sampler", "euler, dpm++ 2m", ("Euler", "DPM++ 2M")),
        ("prompt", 'cat, "dog, sleeping", cat', ("cat", "dog, sleeping")),
        ("model", "b", ("b",)),
    ],
)
def test_values_are_read_as_people_write_them(field: str, words: str, values: tuple[object, ...]) -> None:
    assert parse_axis(field, words, models=["a", "b"]).values == values


@pytest.mark.parametrize(
    ("field", "words", "said"),
    [
        ("seed", "", "no values"),
        ("seed", "1.5", "'1.5' is not a whole number for seed"),
        ("guidance_scale", "high", "'high' is not a number"),
        ("steps", "1-10 (-1)", "never arrives"),
        ("steps", "1-10 (+0)", "never arrives"),
        ("steps", "1-9999999", "9999999 values"),
        ("steps", "1-10 [0]", "asks for 0 values"),
        ("sampler", "Oiler", "Euler"),
        ("model", "c", "no model 'c'"),
        ("colour", "red", "no setting 'colour'"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(field: str, words: str, said: str) -> None:
    with pytest.raises(RequestError, match=r"[.]$") as caught:
        parse_axis(field, words, models=["a", "b"])
    assert said in str(caught.value)


def test_each_cell_differs_from_the_request_by_its_values_alone() -> None:
    request = a_request("a red cat on a red mat", count=4)
    axes = [Axis("prompt", ("red", "blue")), Axis("steps", (2, 3, 4))]
    found = {cell.place: cell.request for cell in cells(request, axes)}
    assert set(found) == {(x, y) for x in range(2) for y in range(3)}
    assert found[1, 2] == dataclasses.replace(request, prompt="a blue cat on a blue mat", steps=4, count=1)
    assert found[0, 1] == dataclasses.replace(request, steps=3, count=1)


def test_pictures_of_a_model_are_drawn_one_after_another() -> None:
    axes = [Axis("seed", (1, 2)), Axis("model", ("b", "a"))]
    assert [(cell.model, cell.request.seed) for cell in cells(a_request(), axes)] == [
        ("b", 1), ("b", 2), ("a", 1), ("a", 2),
    ]  # fmt: skip


def test_a_sampler_that_does_not_take_the_schedule_gets_its_own() -> None:
    request = a_request(schedule="Karras")
    drawn = cells(request, [Axis("sampler", ("Euler", "DDIM"))])
    assert [cell.request.schedule for cell in drawn] == ["Karras", "Automatic"]


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ([], "one to 3 axes"),
        ([Axis("steps", (1,)), Axis("steps", (2,))], "same setting"),
        ([Axis("prompt", ("dog", "cat"))], "does not hold 'dog'"),
        ([Axis("steps", (1, 1000))], "steps must be"),
        ([Axis("steps", tuple(range(1, 101))), Axis("seed", tuple(range(5)))], "500 pictures"),
        ([Axis("sampler", ("DDIM",)), Axis("schedule", ("Karras",))], "does not take"),
    ],
)
def test_a_comparison_that_cannot_be_drawn_is_refused_whole(axes: list[Axis], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        cells(a_request(), axes)


@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6, unique=True),
    st.lists(st.floats(0, 30).map(lambda x: round(x, 6)), min_size=1, max_size=6, unique=True),
    st.lists(st.text(min_size=1).map(str.strip).filter(bool), min_size=1, max_size=6, unique=True),
)
def test_axes_survive_the_settings_of_a_sheet(
    seeds: list[int], scales: list[float], models: list[str]
) -> None:
    axes = [Axis("seed", tuple(seeds)), Axis("guidance_scale", tuple(scales)), Axis("model", tuple(models))]
    assert axes_from_json(axes_to_json(axes)) == axes


@pytest.mark.parametrize("values", [{}, ["x"], [{"field": "steps"}], [{"field": "no", "values": [1]}]])
def test_foreign_axes_are_refused(values: object) -> None:
    with pytest.raises(RequestError):
        axes_from_json(values)


RUNS = {"emoji": [500, 1000, 2000], "a: b": [7]}


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("emoji: 500, 2000", ["emoji: 500", "emoji: 2000"]),
        ("runs/emoji:1000, a: b: 7", ["emoji: 1000", "a: b: 7"]),
        ("emoji", ["emoji: 500", "emoji: 1000", "emoji: 2000"]),
        ("a: b: all, emoji: 1000-2000 (+1000)", ["a: b: 7", "emoji: 1000", "emoji: 2000"]),
    ],
)
def test_checkpoints_are_a_run_and_its_steps(words: str, values: list[str]) -> None:
    axis = parse_axis("checkpoint", words, checkpoints=RUNS)
    assert list(axis.values) == values
    assert axes_from_json(axes_to_json([axis])) == [axis]
    assert [cell.model for cell in cells(a_request(), [axis])] == values


def test_a_run_that_is_the_only_one_needs_no_name() -> None:
    assert parse_axis("checkpoint", "7", checkpoints={"a: b": [7]}).values == ("a: b: 7",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("500", "no run '500'"),
        ("other: 500", "no run 'other' .* there is emoji, a: b"),
        ("emoji: 501", "emoji has no checkpoint of step 501; there is 500, 1000, 2000"),
        ("emoji: newest", "not a whole number"),
        ("", "has no values"),
    ],
)
def test_checkpoints_that_there_are_not_are_named(words: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        parse_axis("checkpoint", words, checkpoints=RUNS)


def test_checkpoints_are_labelled_by_step_and_where_runs_differ_by_both() -> None:
    assert Axis("checkpoint", ("emoji: 500", "emoji: 1000")).label(1) == "1000"
    assert Axis("checkpoint", ("emoji: 500", "other: 500")).label(1) == "other: 500"


def test_models_and_checkpoints_are_not_compared_at_once() -> None:
    with pytest.raises(RequestError, match="not both"):
        cells(a_request(), [Axis("model", ("a",)), Axis("checkpoint", ("emoji: 500",))])
