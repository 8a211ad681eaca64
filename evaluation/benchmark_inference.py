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
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from evaluation.contenders import (
    ENGINES,
    REFERENCE,
    Contender,
    Loop,
    Stopwatch,
    open_contender,
    peak_bytes,
    usual_engines,
)
from evaluation.diffusers_loop import build_scheduler
from evaluation.inference_cases import CASES, Case
from evaluation.inference_report import tables
from evaluation.inference_result import CaseResult, Drawn, compare, summary
from evaluation.limits import limit_of, matrix_products, operators
from evaluation.savings import Saving, measure_savings
from evaluation.timing import machine
from models.errors import RequestError, StudioError
from models.folder import model_path
from models.latent_diffusion import LatentDiffusionModel
from models.text_encoder import TextStates
from models.writing import write_bytes
from pipelines.request import GenerationRequest

PROFILED_BELOW = 0.5  # of the matrix products' speed
SHOWN_OPERATORS = 12
SAVINGS_ROUNDS = 15


def measure_case(
    result: CaseResult,
    folder: Path,
    requests: Sequence[GenerationRequest],
    engines: Sequence[str],
    threads: int,
) -> None:
    """Fill a result: every request drawn by the reference and each engine, on 1 thread and on `threads`."""
    for count in sorted({1, threads}):
        _measure_pass(result, folder, requests, engines, count)  # whose models are gone after it


def _measure_pass(
    result: CaseResult,
    folder: Path,
    requests: Sequence[GenerationRequest],
    engines: Sequence[str],
    threads: int,
) -> None:
    torch.set_num_threads(threads)
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
    clock = time.process_time if threads == 1 else time.perf_counter
    calls = part_calls(reference.model, drawable[0])
    sizes = {part: matrix_products(call) for part, call in calls.items()}
    result.limits[threads] = {part: limit_of(sizes[part], clock) for part in calls}
    take_turns(result, contenders, drawable, threads)


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
    """How many threads; RequestError for a name that is not known, or a model that is not there."""
    for given, known in ((args.cases, CASES), (args.engines, ENGINES)):
        for name in given or ():
            if name not in known:
                raise RequestError(f'There is no "{name}" here; there is {", ".join(known)}.')
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return int(args.threads or cores or 1)


def main(args: Namespace) -> int:
    """Run the command; `args` has model, cases, engines, threads, prompts, profile, report and json."""
    threads, engines = _check(args), args.engines or usual_engines()
    about, results = inference_machine(threads), dict[str, CaseResult]()
    savings: list[Saving] = []
    try:
        for name in args.cases:
            _run_case(name, CASES[name], args, engines, threads, results)
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
        write_bytes(args.report, f"{text}\n".encode())
    print(json.dumps(report) if args.json else text)
    return exit_code


def _run_case(
    name: str,
    case: Case,
    args: Namespace,
    engines: Sequence[str],
    threads: int,
    results: dict[str, CaseResult],
) -> None:
    folder = model_path(args.model) if case.build is None else case.build()
    requests = case.requests(folder, args.prompts)
    result = results[name] = CaseResult(requests[0])
    if "torch-bf16" not in engines and not args.engines:
        result.skipped["torch-bf16"] = "this processor has no avx512_bf16; `--engines torch-bf16` measures it"
    measure_case(result, folder, requests, engines, threads)
    if case.memory:
        for contender, drawn in result.drawn.items():
            try:
                drawn.peak_bytes = peak_bytes(contender, folder, result.request, threads)
            except StudioError as error:
                result.skipped[f"the memory of {contender}"] = str(error)
    if args.profile:
        parts = summary(result, threads)["reference"]["parts"]
        shares = {part: parts[part].get("cpu_share_of_limit") for part in result.limits[1]}
        # None where the clock of the processor has not moved, as it does in steps.
        profile_case(result, folder, {part: share for part, share in shares.items() if share is not None})
