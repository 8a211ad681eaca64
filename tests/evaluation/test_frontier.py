import json
import math
import shutil
import time
from argparse import Namespace
from functools import partial
from itertools import groupby

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.commands.parser import parse
from evaluation import frontier as command
from evaluation.drawing import draw_all, draw_in_batches
from evaluation.frontier import frontier
from evaluation.plots import Curve, Panel, save_plot
from evaluation.timing import by_turns
from models.denoiser import Denoiser
from models.errors import RequestError
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest

numbers = st.integers(0, 6).map(float)  # few values, so that there are ties


def beats(one, other):
    return one[0] <= other[0] and one[1] <= other[1] and one != other


@given(st.lists(st.tuples(numbers, numbers), max_size=12))
def test_nobody_beats_what_is_on_the_frontier_and_it_beats_the_rest(points):
    on_it = [point for point, best in zip(points, frontier(points), strict=True) if best]
    for point in points:
        assert any(beats(one, point) for one in on_it) != (point in on_it)


def test_calls_take_turns_and_the_first_round_is_not_counted():
    seen = []

    def work(name, number):
        seen.append((name, number))
        sum(range(20_000))

    taken = by_turns({name: partial(work, name) for name in "ab"}, 2, "")
    turns = [turn for turn, _ in groupby(seen)]
    assert turns == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert {name: len(times) for name, times in taken.items()} == {"a": 2, "b": 2}


def test_a_call_is_timed_also_where_the_clock_stands_still_meanwhile(monkeypatch):
    worked = 0.0

    def work(_number):
        nonlocal worked
        worked += 0.0003

    monkeypatch.setattr(time, "process_time", lambda: worked // 0.004 * 0.004)
    times = by_turns({"soon over": work}, 3, "")["soon over"]
    assert times.tolist() == pytest.approx([0.0003] * 3, rel=0.25)  # a step or less of a block of five


def test_a_plot_shows_every_curve_and_the_same_numbers_give_the_same_file(tmp_path):
    curves = [
        Curve(name, [1, 10], [3.0, 2.0], [(2.5, 3.5), (1, 3)], i) for i, name in enumerate(("kl", "vq"))
    ]
    panels = [Panel("left", "seconds", "distance", curves, [(1, 3.0)]), Panel("right", "s", "d", curves)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save_plot(panels, tmp_path / name / "plot")
    drawn = [(tmp_path / name / "plot.svg").read_bytes() for name in ("one", "two")]
    assert drawn[0] == drawn[1]
    for word in ("left", "right", "seconds", "distance", "kl", "vq", "frontier"):
        assert f">{word}<".encode() in drawn[0]
    width, height = Image.open(tmp_path / "one/plot.png").size
    assert width > 2 * height


@pytest.mark.slow
def test_pictures_drawn_together_are_those_drawn_alone_and_are_kept(tiny_model_folder, tmp_path):
    engine = LocalEngine(tiny_model_folder, "cpu")
    words = {"steps": 2, "guidance_scale": 2.0}
    prompts = ["a dog", "the red apple on the left of a green cat", ""]
    options = [words | {"prompt": prompt, "seed": seed} for seed, prompt in enumerate(prompts)]
    requests = [GenerationRequest.from_options(one, engine.model.defaults) for one in options]

    def pixels(files):
        return torch.stack([torch.tensor(list(Image.open(file).tobytes())) for file in files])

    together = draw_in_batches(engine, requests, 2, "")
    before, drawn = [file.stat().st_mtime_ns for file in together], pixels(together)
    assert draw_in_batches(engine, requests, 2, "") == together
    assert [file.stat().st_mtime_ns for file in together] == before
    shutil.rmtree(together[0].parent)
    assert draw_all(engine, requests, "") == together
    assert (pixels(together) - drawn).abs().max() <= 1


@pytest.fixture
def clock_of_calls(monkeypatch):
    """The processor's clock moves by a hundredth of a second with each call of a denoiser, and not else."""
    calls, epsilon = [], Denoiser.epsilon

    def counted(self, *given):
        calls.append(self)
        return epsilon(self, *given)

    monkeypatch.setattr(Denoiser, "epsilon", counted)
    monkeypatch.setattr(time, "process_time", lambda: len(calls) / 100)


@pytest.mark.slow
def test_samplers_and_steps_are_timed_drawn_and_compared(
    tiny_model_folder, dataset, tmp_path, capsys, clock_of_calls
):
    words = ["evaluate", "frontier", "--model", str(tiny_model_folder), "--data", str(dataset)]
    words += ["--samplers", "euler,Heun", "--steps", "1,3", "--rounds", "5", "--json"]
    words += ["--output", str(tmp_path / "out"), "--device", "cpu"]
    assert command.main(parse(words)) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "out/samplers.json").read_text())
    points = {(point["sampler"], point["steps"]): point for point in result["points"]}
    assert list(points) == [("Euler", 1), ("Euler", 3), ("Heun", 1), ("Heun", 3)]
    # Heun calls the model five times in three steps
    assert [point["seconds_per_picture"] for point in points.values()] == [0.01, 0.03, 0.01, 0.05]
    for name, sign in (("kernel_distance", 1), ("top5", -1)):
        measured = [(point["seconds_per_picture"], sign * point[name]) for point in points.values()]
        assert [point[f"on_frontier_{name}"] for point in points.values()] == frontier(measured)
        for point in points.values():
            low, high = point[f"{name}_interval"]
            assert low <= point[name] <= high
            assert math.isfinite(high - low)
    assert (tmp_path / "out/samplers.md").read_text().count("| Heun |") == 2
    assert Image.open(tmp_path / "out/samplers.png").size[0] > 1000
    assert "Heun" in (tmp_path / "out/samplers.svg").read_text()

    drawn = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs/cache/drawn").rglob("*.png")}
    assert command.main(parse(words)) == 0
    assert {file: file.stat().st_mtime_ns for file in drawn} == drawn
    again = json.loads(capsys.readouterr().out)["points"]
    assert [one["kernel_distance"] for one in again] == [one["kernel_distance"] for one in result["points"]]


def test_too_few_pictures_are_refused():
    with pytest.raises(RequestError, match="--count is 3"):
        command.main(Namespace(count=3))
