"""`benchmark inference`: each engine against the loop of diffusers' documentation, on the same pictures.

All take turns, picture by picture: what else the machine does at the time slows all of them alike. Each has
weights of its own from the same files, and every prompt is new, so no text state is known before.
"""

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from evaluation.contenders import (
    ENGINES,
    PARTS,
    REFERENCE,
    Contender,
    Loop,
    Stopwatch,
    open_contender,
    peak_bytes,
)
from evaluation.diffusers_loop import build_scheduler
from evaluation.inference_cases import CASES, Case
from evaluation.inference_report import tables
from evaluation.limits import Limit, limit_of, matrix_products, operators
from evaluation.savings import Saving, measure_savings
from evaluation.timing import machine
from models.errors import RequestError, StudioError
from models.folder import LatentDiffusionModel, model_path
from models.text_encoder import TextStates
from models.weights import write_bytes
from pipelines.canvas import to_pixels
from pipelines.request import GenerationRequest
from training.measures import psnr

WALL, CPU = 0, 1  # as a Stopwatch counts
PROFILED_BELOW = 0.5  # of the matrix products' speed
SHOWN_OPERATORS = 12
SAVINGS_ROUNDS = 5


@dataclass
class Drawn:
    """What the pictures of one contender took, (3, 2) each by PARTS and clock, and how near they are."""

    ran_on: str = ""
    seconds: dict[int, list[NDArray[np.float64]]] = field(default_factory=dict)  # by number of threads
    psnr_db: list[float] = field(default_factory=list)  # to the reference
    differences: list[int] = field(default_factory=list)  # the largest of each picture, of 255
    peak_bytes: int | None = None


@dataclass
class CaseResult:
    """What is known of a case so far: it may be stopped at any time."""

    request: GenerationRequest
    drawn: dict[str, Drawn] = field(default_factory=dict)
    limits: dict[int, dict[str, Limit]] = field(default_factory=dict)  # by number of threads and part
    profiles: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)  # engines, and why


def measure_case(
    result: CaseResult,
    folder: Path,
    requests: Sequence[GenerationRequest],
    engines: Sequence[str],
    threads: int,
) -> None:
    """Fill a result: every request drawn by the reference and each engine, on 1 thread and on `threads`."""
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        reference = Loop(folder)
        contenders: dict[str, Contender] = {REFERENCE: reference}
        for name in engines:
            try:
                contenders[name] = open_contender(name, folder)
            except StudioError as error:
                result.skipped[name] = str(error)
        drawable = [_drawable(reference.model, request) for request in requests]
        result.request = drawable[0]
        for contender in contenders.values():
            contender.draw(replace(drawable[0], steps=2, prompt="a thing"), lambda part: None)
        clock = time.process_time if count == 1 else time.perf_counter
        calls = part_calls(reference.model, drawable[0])
        sizes = {part: matrix_products(call) for part, call in calls.items()}
        result.limits[count] = {part: limit_of(sizes[part], clock) for part in calls}
        take_turns(result, contenders, drawable, count)


def take_turns(
    result: CaseResult, contenders: dict[str, Contender], requests: Sequence[GenerationRequest], threads: int
) -> None:
    """Add every request drawn by all contenders, one after the other, on as many threads as torch has now."""
    names = list(contenders)
    bar = tqdm(
        total=len(requests) * len(names),
        desc=f"{threads} thread{'s' * (threads > 1)}",
        unit="picture",
        leave=False,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        for number, request in enumerate(requests):
            images: dict[str, list[Image.Image]] = {}
            first = number % len(names)  # none always after the same one
            for name in names[first:] + names[:first]:
                watch = Stopwatch()
                images[name] = contenders[name].draw(request, watch.mark)
                drawn = result.drawn.setdefault(name, Drawn())
                drawn.ran_on = contenders[name].ran_on
                drawn.seconds.setdefault(threads, []).append(watch.parts(request.steps))
                bar.update()
            for name in names:
                compare(result.drawn[name], images[name], images[REFERENCE])


def _drawable(model: LatentDiffusionModel, request: GenerationRequest) -> GenerationRequest:
    """The request, with Euler where the loop is not written for the sampler that the model prefers."""
    try:
        build_scheduler(model.denoiser, request)
    except RequestError:
        return replace(request, sampler="Euler", schedule="Automatic")
    return request


def compare(drawn: Drawn, images: Sequence[Image.Image], references: Sequence[Image.Image]) -> None:
    """Add how near each picture is to the reference's; 100 dB where no pixel differs."""
    for image, reference in zip(images, references, strict=True):
        ours, theirs = np.asarray(image), np.asarray(reference)
        drawn.differences.append(int(abs(ours.astype(int) - theirs).max()))
        drawn.psnr_db.append(float(psnr(to_pixels(ours), to_pixels(theirs))))


def part_calls(model: LatentDiffusionModel, request: GenerationRequest) -> dict[str, Callable[[], object]]:
    """One step of the UNet with guidance, and one decoding, of a request's batch."""
    factor, count = model.autoencoder.downsampling_factor, request.count
    latents = torch.randn(
        count, model.autoencoder.latent_channels, request.height // factor, request.width // factor
    )  # (B, C, h, w)
    unprompted, prompt = (model.text_encoder.encode([words] * count) for words in ("", request.prompt))
    states = TextStates.cat([unprompted, prompt])  # (2B, T, D)
    t = torch.full((2 * count,), 500.0)
    return {
        "unet": torch.no_grad()(lambda: model.denoiser.runner(torch.cat([latents] * 2), t, states)),
        "decoder": torch.no_grad()(lambda: model.autoencoder.decode(latents)),
    }


def profile_case(result: CaseResult, folder: Path, shares: dict[str, float]) -> None:
    """Fill in the operators of the parts that reach less than half of the matrix products' speed."""
    calls = part_calls(Loop(folder).model, result.request)
    for part, share in shares.items():
        if share < PROFILED_BELOW:
            calls[part]()
            rows = operators(calls[part])
            whole = sum(seconds for _, _, seconds in rows)
            kinds: dict[str, float] = {}
            for _, kind, seconds in rows:
                kinds[kind] = kinds.get(kind, 0.0) + seconds / whole
            result.profiles[part] = {
                "seconds": whole,
                "kinds": kinds,
                "operators": {name: seconds / whole for name, _, seconds in rows[:SHOWN_OPERATORS]},
            }


def summary(result: CaseResult, threads: int) -> dict[str, Any]:
    """A case as JSON has it: medians, processor time on 1 thread (cpu) and wall time on `threads` (wall)."""
    request, limits = result.request, result.limits.get(1, {})
    reference, *engines = (
        (name, _summary_of(drawn, result.limits, request.steps, threads))
        for name, drawn in result.drawn.items()
    )
    for name, row in engines:
        drawn = result.drawn[name]
        for kind, key in (("wall", "speedup"), ("cpu", "cpu_speedup")):
            if {f"{kind}_seconds"} <= row.keys() & reference[1].keys():
                row[key] = reference[1][f"{kind}_seconds"] / row[f"{kind}_seconds"]
        if drawn.psnr_db:
            row["psnr_median_db"] = float(np.median(drawn.psnr_db))
            row["psnr_min_db"] = min(drawn.psnr_db)
            row["max_abs_255"] = max(drawn.differences)
    return {
        "width": request.width,
        "height": request.height,
        "batch": request.count,
        "steps": request.steps,
        "sampler": request.sampler,
        "guidance_scale": request.guidance_scale,
        "reference": reference[1],
        "engines": dict(engines),
        "skipped": result.skipped,
        "flops": {part: limit.flops for part, limit in limits.items()},
        "matrix_flops_per_second": {
            str(count): {"fastest": _matrix_rate(parts)}
            | {part: limit.flops_per_second for part, limit in parts.items()}
            for count, parts in result.limits.items()
        },
        "profile": result.profiles,
    }


def _summary_of(
    drawn: Drawn, limits: dict[int, dict[str, Limit]], steps: int, threads: int
) -> dict[str, Any]:
    row: dict[str, Any] = {"ran_on": drawn.ran_on, "parts": {part: {} for part in PARTS}}
    for kind, count, clock in (("wall", threads, WALL), ("cpu", 1, CPU)):
        if count not in drawn.seconds:
            continue
        seconds = np.stack(drawn.seconds[count])[:, :, clock]  # (pictures, 3)
        row[f"{kind}_seconds"] = float(np.median(seconds.sum(1)))
        row[f"{kind}_quartiles"] = np.quantile(seconds.sum(1), [0.25, 0.75]).tolist()
        row[f"{kind}_pictures"] = len(seconds)
        for part, median in zip(PARTS, np.median(seconds, 0), strict=True):
            row["parts"][part][f"{kind}_seconds"] = float(median)
            if part in limits.get(count, {}):
                work = limits[count][part].flops * (steps if part == "unet" else 1)
                row["parts"][part][f"{kind}_share_of_limit"] = (
                    work / float(median) / _matrix_rate(limits[count])
                )
    if drawn.peak_bytes is not None:
        row["peak_bytes"] = drawn.peak_bytes
    return row


def _matrix_rate(limits: dict[str, Limit]) -> float:
    """Operations a second of the fastest product that a case has: what this machine can do at such sizes."""
    return max(limit.fastest for limit in limits.values())


def inference_machine(threads: int) -> dict[str, Any]:
    """What the figures hold on."""
    try:
        openvino = version("openvino")
    except PackageNotFoundError:
        openvino = None
    flags = torch.cpu.get_capabilities()
    return {
        **machine(),
        "openvino": openvino,
        "cores": os.cpu_count(),
        "threads": threads,
        **{flag: bool(flags.get(flag)) for flag in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _check(args: Namespace) -> int:
    """The number of threads; RequestError for a name that is not known, or a model that is not there."""
    for given, known in ((args.cases, CASES), (args.engines, ENGINES)):
        for name in given or ():
            if name not in known:
                raise RequestError(f'There is no "{name}" here; there is {", ".join(known)}.')
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return int(args.threads or cores or 1)


def main(args: Namespace) -> int:
    """Run the command; `args` has model, cases, engines, threads, prompts, profile, report and json."""
    threads = _check(args)
    about, results = inference_machine(threads), dict[str, CaseResult]()
    savings: list[Saving] = []
    try:
        for name in args.cases:
            _run_case(name, CASES[name], args, threads, results)
        if "starter-b1" in results:
            torch.set_num_threads(1)
            savings += measure_savings(model_path(args.model), results["starter-b1"].request, SAVINGS_ROUNDS)
    except KeyboardInterrupt:
        print("Stopped; this is what was measured before.", file=sys.stderr)
        exit_code = 130
    else:
        exit_code = 0
    report = {
        "machine": about,
        "cases": {name: summary(result, threads) for name, result in results.items() if result.drawn},
        "savings": [saving.to_dict() for saving in savings],
        "interrupted": exit_code != 0,
    }
    text = tables(report)
    if args.report is not None:
        write_bytes(args.report, text.encode())
    print(json.dumps(report) if args.json else text)
    return exit_code


def _run_case(name: str, case: Case, args: Namespace, threads: int, results: dict[str, CaseResult]) -> None:
    folder = model_path(args.model) if case.build is None else case.build()
    requests = case.requests(folder, args.prompts)
    result = results[name] = CaseResult(requests[0])
    measure_case(result, folder, requests, args.engines, threads)
    if case.memory:
        for contender, drawn in result.drawn.items():
            drawn.peak_bytes = peak_bytes(contender, folder, result.request, threads)
    if args.profile:
        parts = summary(result, threads)["reference"]["parts"]
        profile_case(result, folder, {part: parts[part]["cpu_share_of_limit"] for part in result.limits[1]})
