import json
import sys
import time
from argparse import Namespace

import numpy as np
import pytest
import torch
from PIL import Image

from app.commands import training_options
from evaluation.benchmark_inference import main, measure_case, take_turns
from evaluation.contenders import (
    ENGINES,
    PARTS,
    REFERENCE,
    Local,
    Stopwatch,
    open_contender,
    peak_bytes,
    usable_engines,
)
from evaluation.inference_cases import CASES, PROMPTS, Case, stable_diffusion_networks
from evaluation.inference_result import CaseResult, summary
from models.defaults import read_defaults
from models.errors import RequestError, StudioError
from pipelines.request import GenerationRequest


@pytest.fixture
def tiny_case(tiny_model_folder):
    return Case({"count": 2, "steps": 3}, lambda: tiny_model_folder, most_pictures=3)


@pytest.fixture
def on_tiny(monkeypatch, tiny_case):
    """Runs the command with the tiny model in the place of the starter, on one thread."""
    monkeypatch.setitem(CASES, "starter-b1", tiny_case)
    threads = torch.get_num_threads()

    def run(folder, **options):
        defaults = {"cases": ["starter-b1"], "engines": ["torch"], "threads": 1, "prompts": 2}
        others = {"profile": False, "report": None, "json": True}
        return main(Namespace(model=folder, **defaults | others | options))

    yield run
    torch.set_num_threads(threads)


class Noted:
    """Draws grey pictures that differ by what `grey` says, and notes whose turn it was."""

    ran_on = "paper"

    def __init__(self, name, turns, grey):
        self.name, self.turns, self.grey = name, turns, grey

    def draw(self, request, mark):
        self.turns.append((self.name, request.prompt))
        for part in PARTS:
            mark(part)
        return [Image.new("RGB", (32, 32), (self.grey,) * 3)]


def some_requests(count):
    return [
        GenerationRequest(
            prompt=prompt, width=32, height=32, steps=3, guidance_scale=2, sampler="Euler", seed=1
        )
        for prompt in PROMPTS[:count]
    ]


def test_contenders_take_turns_at_each_prompt_and_none_always_goes_first():
    requests, turns = some_requests(6), []
    names = (REFERENCE, "one", "two")
    take_turns(CaseResult(requests[0]), {name: Noted(name, turns, 90) for name in names}, requests, 1)
    rounds = [turns[first : first + 3] for first in range(0, len(turns), 3)]
    assert [{prompt for _, prompt in turn} for turn in rounds] == [{request.prompt} for request in requests]
    assert all({name for name, _ in turn} == set(names) for turn in rounds)
    assert {name: sum(turn[0][0] == name for turn in rounds) for name in names} == dict.fromkeys(names, 2)


def test_pictures_are_compared_with_the_references():
    requests = some_requests(2)
    result = CaseResult(requests[0])
    contenders = {
        name: Noted(name, [], grey) for name, grey in ((REFERENCE, 100), ("near", 103), ("same", 100))
    }
    take_turns(result, contenders, requests, 1)
    engines = summary(result, 1)["engines"]
    assert engines["near"]["max_abs_255"] == 3
    assert engines["near"]["psnr_median_db"] == pytest.approx(20 * np.log10(255 / 3), abs=0.01)
    assert engines["same"]["psnr_min_db"] == pytest.approx(100)
    assert engines["same"]["max_abs_255"] == 0


def test_the_first_step_is_told_apart_from_the_text_before_it():
    watch = Stopwatch()
    watch.taken = {
        name: np.array([x, 2 * x]) for name, x in (("first step", 5.0), ("unet", 6.0), ("decoder", 1.0))
    }
    assert watch.parts(steps=4).tolist() == [[3, 6], [8, 16], [1, 2]]  # a step takes 2, the text 3
    watch.taken["first step"] = np.array([1.5, 3.0])
    assert watch.parts(steps=4).tolist() == [[0, 0], [7.5, 15], [1, 2]]  # never less than nothing


def test_the_command_line_has_the_names_that_there_are():
    assert list(CASES) == training_options.CASES
    assert list(ENGINES) == training_options.ENGINES


def test_no_two_requests_of_a_case_have_a_prompt_or_a_seed_in_common(tiny_model_folder, tiny_case):
    requests = CASES["starter-b1"].requests(tiny_model_folder, 1000)
    assert len({request.prompt for request in requests}) == len(requests) == len(PROMPTS) >= 32
    seeds = [
        request.seed + i for request in tiny_case.requests(tiny_model_folder, 3) for i in range(request.count)
    ]
    assert len(set(seeds)) == len(seeds) == 6


def test_stable_diffusion_has_its_published_sizes():
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in network.parameters()) for network in stable_diffusion_networks()]
    assert sizes == [859_520_964, 83_653_863, 123_060_480]  # those of runwayml/stable-diffusion-v1-5


@pytest.mark.slow
def test_every_engine_is_measured_by_part_and_against_the_reference(
    tiny_model_folder, tiny_case, monkeypatch
):
    # The processor's own clock may stand still for the whole of a part.
    monkeypatch.setattr(time, "process_time", time.perf_counter)
    requests = tiny_case.requests(tiny_model_folder, 3)
    result, threads = CaseResult(requests[0]), torch.get_num_threads()
    try:
        measure_case(result, tiny_model_folder, requests, usable_engines(), threads=2)
    finally:
        torch.set_num_threads(threads)
    found = summary(result, 2)
    assert found["engines"].keys() == set(usable_engines()) >= {"torch", "torch-bf16"}
    assert found["engines"]["torch"]["max_abs_255"] <= 2
    assert found["engines"]["torch-bf16"]["max_abs_255"] > 0
    for row in (found["reference"], *found["engines"].values()):
        for kind in ("wall", "cpu"):
            low, high = row[f"{kind}_quartiles"]
            assert 0 < low <= row[f"{kind}_seconds"] <= high
            assert row[f"{kind}_pictures"] == 3
            for part in ("unet", "decoder"):
                times = row["parts"][part]
                speed = found["flops"][part] * (3 if part == "unet" else 1) / times[f"{kind}_seconds"]
                best = found["matrix_flops_per_second"]["2" if kind == "wall" else "1"]["fastest"]
                assert times[f"{kind}_share_of_limit"] == pytest.approx(speed / best)
    for row in found["engines"].values():
        assert row["speedup"] == pytest.approx(found["reference"]["wall_seconds"] / row["wall_seconds"])
        assert row["cpu_speedup"] == pytest.approx(found["reference"]["cpu_seconds"] / row["cpu_seconds"])


@pytest.mark.slow
def test_the_command_prints_json_and_keeps_the_tables(on_tiny, tiny_model_folder, tmp_path, capsys):
    assert on_tiny(tiny_model_folder, report=tmp_path / "report.md", profile=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert not report["interrupted"]
    assert {"processor", "avx512_bf16", "cores", "threads", "torch", "date", "load"} <= report[
        "machine"
    ].keys()
    row = report["cases"]["starter-b1"]["engines"]["torch"]
    names = "wall_seconds cpu_seconds speedup psnr_median_db psnr_min_db max_abs_255"
    assert set(names.split()) <= row.keys()
    assert {saving["exact"] for saving in report["savings"]} == {True, False}
    assert all(saving["share"] < 1 for saving in report["savings"])

    text = (tmp_path / "report.md").read_text()
    for words in ("### starter-b1: 32x32, batch 2, 3 steps of Euler", f"{row['cpu_seconds']:.3f}", "GFLOP/s"):
        assert words in text
    for part, times in report["cases"]["starter-b1"]["reference"]["parts"].items():
        is_slow = times.get("cpu_share_of_limit", 1) < 0.5
        assert (f"Where a call of the {part}" in text) == is_slow
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| torch")}
    assert widths == {7, 6}  # one of times, one of pictures


@pytest.mark.slow
def test_what_was_measured_is_printed_when_it_is_stopped(on_tiny, tiny_model_folder, monkeypatch, capsys):
    draw, drawings = Local.draw, []

    def stopped(self, request, mark):
        drawings.append(request)
        if len(drawings) == 3:  # one of them to warm up
            raise KeyboardInterrupt
        return draw(self, request, mark)

    monkeypatch.setattr(Local, "draw", stopped)
    assert on_tiny(tiny_model_folder) == 130
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["interrupted"]
    assert report["cases"]["starter-b1"]["engines"]["torch"]["cpu_pictures"] == 1
    assert "Stopped" in said.err


def test_an_unknown_name_is_answered_with_those_there_are(on_tiny, tiny_model_folder):
    with pytest.raises(RequestError, match=r'no "tensorrt" here; there is torch'):
        on_tiny(tiny_model_folder, engines=["tensorrt"])
    with pytest.raises(RequestError, match=r'no "sdxl" here; there is starter-b1'):
        on_tiny(tiny_model_folder, cases=["sdxl"])


@pytest.mark.slow
def test_an_engine_that_this_version_lacks_is_left_out(tiny_model_folder, monkeypatch):
    monkeypatch.setitem(ENGINES, "warp", {"warp_factor": 9})
    with pytest.raises(StudioError, match="no such engine"):
        open_contender("warp", tiny_model_folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell the peak of a process")
def test_the_peak_of_a_fresh_process_is_its_own(tiny_model_folder):
    defaults = read_defaults(tiny_model_folder)
    request = GenerationRequest.from_options({"prompt": "a dog", "seed": 1}, defaults)
    held = torch.ones(2**29)  # 2 GB in this process
    peak = peak_bytes("torch", tiny_model_folder, request, 1)
    assert 2**27 < peak < 2**31 <= held.nbytes


@pytest.mark.slow
def test_a_process_that_fails_says_so(tmp_path):
    with pytest.raises(StudioError, match="ended before its picture"):
        peak_bytes("torch", tmp_path / "nothing", some_requests(1)[0], 1)
