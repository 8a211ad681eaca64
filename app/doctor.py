"""What is installed here, what the networks will run on and why, and what would fit the hardware better."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.hardware import Hardware, TorchBuild, better_torch, choose_device
from app.preparing import start
from app.settings import Settings
from app.threads import threads_of
from models.defaults import read_defaults
from models.errors import ModelError, StudioError
from models.machine import free_memory_bytes
from pipelines.memory import plan_for_folder
from pipelines.runners.folder import only_on_torch

ROOT = Path(__file__).resolve().parents[1]
# In the order in which `generate` and the page meet them: what one has loaded is free for the next.
TIMED_IMPORTS = (
    "torch",
    "transformers",
    "diffusers.models.unets.unet_2d_condition",
    "pipelines.local_engine",
    "gradio",
)


def main(model: Path, as_json: bool, prepare: bool) -> int:
    """Print the report; exit code 1 when something that Latent Studio needs is missing or broken.

    To `prepare` a model is to convert it for OpenVINO and to measure both engines.
    """
    if prepare and only_on_torch(model):
        print(f"{model} is SDXL, which torch draws: there is nothing to prepare.", file=sys.stderr)
    elif prepare and (code := start(model).wait()):
        print(
            f"OpenVINO could not be prepared for {model}: its process ended with code {code}.",
            file=sys.stderr,
        )
    report = examine(model)
    print(json.dumps(report) if as_json else in_words(report))
    return 0 if report["healthy"] else 1


def examine(model: Path) -> dict[str, Any]:
    """The whole report, as plain values."""
    from models.folder_check import find_models
    from training.runs import exported_models

    outputs = Settings.from_environment().outputs
    hardware = Hardware.of_this_machine()
    packages = {name: _version(name) for name in _pinned_names()}
    probed = _probe_in_another_process(model)
    build = TorchBuild(**probed["torch"]) if probed.get("torch") else None
    device, why = choose_device(build)
    threads = threads_of(os.environ)
    models = [str(path) for path in (*find_models(ROOT / "checkpoints"), *exported_models())]
    advice = [] if build is None else [line for line in [better_torch(hardware, build)] if line]
    if not models:
        advice.append("No model was found: train one, or put a model folder under checkpoints/.")
    return {
        "healthy": build is not None and not probed["errors"] and None not in packages.values(),
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "packages": packages,
        "torch": None if build is None else {"version": build.version, "build": build.kind},
        "accelerators": list(hardware.names),
        "devices": [] if build is None else list(build.devices),
        "engine": choose_engine(device, why, probed.get("choice"), model),
        "threads": {"count": threads.count, "why": threads.why},
        "import_seconds": probed["seconds"],
        "import_errors": probed["errors"],
        "models": models,
        "memory": _memory(models, probed.get("gpu_free_bytes")) if build is not None else None,
        "outputs": {"path": str(outputs), "free_bytes": _free_bytes(outputs)},
        "advice": advice,
    }


def in_words(report: dict[str, Any]) -> str:
    """The report for a person, one fact a line."""
    seconds = report["import_seconds"]
    imports = ", ".join(f"{name.partition('.')[0]} {took:.1f} s" for name, took in seconds.items())
    torch = report["torch"]
    lines = {
        "Python": f"{report['python']['version']} at {report['python']['executable']}",
        "Machine": f"{report['machine']['system']}, {report['machine']['cores']} cores",
        "Packages": ", ".join(f"{name} {found or 'MISSING'}" for name, found in report["packages"].items()),
        "torch": "cannot be imported" if torch is None else f"{torch['version']}, built for {torch['build']}",
        "Accelerators": ", ".join(report["accelerators"]) or "none found",
        "Devices": ", ".join(report["devices"]) or "none",
        "Engine": f"{report['engine']['name']} on {report['engine']['device']}: {report['engine']['why']}",
        "Threads": f"{report['threads']['count']}: {report['threads']['why']}",
        "Import time": f"{sum(seconds.values()):.1f} s ({imports})",
        "Models": ", ".join(report["models"]) or "none",
        "Memory": "unknown" if report["memory"] is None else _memory_in_words(report["memory"]),
        "Outputs": f"{report['outputs']['path']}, {report['outputs']['free_bytes'] / 1e9:.1f} GB free",
    }
    shown = [f"{name + ':':<14}{text}" for name, text in lines.items()]
    shown += [f"Broken: {name} {error}" for name, error in report["import_errors"].items()]
    return "\n".join(shown + report["advice"])


def _memory(models: Sequence[str], gpu_free_bytes: int | None) -> dict[str, Any]:
    """Free memory where the networks go, and how each model would draw a picture of its own size in it."""
    free = free_memory_bytes() if gpu_free_bytes is None else gpu_free_bytes
    plans: dict[str, str] = {}
    for model in map(Path, models):
        try:
            defaults = read_defaults(model)
            size = defaults.width, defaults.height
            plan = plan_for_folder(model, free, size, can_offload=gpu_free_bytes is not None)
        except ModelError as error:
            plans[str(model)] = str(error)
        else:
            plans[str(model)] = "does not fit" if plan is None else plan.in_words() or "all at once"
    return {"free_bytes": free, "where": "CPU" if gpu_free_bytes is None else "GPU", "plans": plans}


def _memory_in_words(memory: dict[str, Any]) -> str:
    said = "".join(f"; {Path(model).name}: {plan}" for model, plan in memory["plans"].items())
    return f"{memory['free_bytes'] / 1e9:.1f} GB free on the {memory['where']}{said}"


def choose_engine(device: str, why: str, measured: dict[str, Any] | None, model: Path) -> dict[str, Any]:
    """The engine that `--engine auto` takes for a model, and the reason in words."""
    if device != "cpu":
        return {"name": "torch", "device": device, "why": why}
    if only_on_torch(model):
        return {"name": "torch", "device": device, "why": f"{why}; OpenVINO does not draw SDXL"}
    if measured is None:
        undone = (
            f"OpenVINO is not measured for {model} yet (python launch.py doctor --prepare --model {model})"
        )
        return {"name": "torch", "device": device, "why": f"{why}; {undone}"}
    words = (
        f"{why}; a picture of {model.name} takes {measured['openvino_seconds']:.2f} s of CPU time on "
        f"{measured['engine']}, {measured['torch_seconds']:.2f} s on torch"
    )
    return {"name": measured["faster"], "device": device, "why": words, "measured": measured}


def probe(model: str) -> None:
    """Import the heavy packages in turn; print, as JSON, the seconds each took and torch's devices.

    Also what was measured of a model folder, if anything was.
    """
    seconds: dict[str, float] = {}
    errors: dict[str, str] = {}
    for name in TIMED_IMPORTS:
        start = time.perf_counter()
        try:
            __import__(name)
        except Exception as error:
            errors[name] = repr(error)
        seconds[name] = round(time.perf_counter() - start, 3)
    found: dict[str, Any] = {"seconds": seconds, "errors": errors}
    if "torch" not in errors:
        import torch

        gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
        devices = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in gpus]
        devices += ["mps"] if torch.backends.mps.is_available() else []
        if gpus:
            found["gpu_free_bytes"] = torch.cuda.mem_get_info(0)[0]
        found["torch"] = {
            "version": str(torch.__version__),
            "cuda": torch.version.cuda,
            "hip": torch.version.hip,
            "devices": [*devices, "cpu"],
        }
        try:
            from models.folder import model_id
            from pipelines.runners.choice import read_choice

            choice = read_choice(model_id(Path(model)))
            found["choice"] = choice and asdict(choice) | {"faster": choice.faster}
        except StudioError:  # no model there, no OpenVINO here: then nothing was measured
            found["choice"] = None
    print(json.dumps(found))


def _probe_in_another_process(model: Path) -> dict[str, Any]:
    """What `probe` says; its own process, so that a torch that crashes leaves a report to read."""
    code = "import sys; from app.doctor import probe; probe(sys.argv[1])"
    command = [sys.executable, "-c", code, str(model.absolute())]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = ended.stderr.strip().splitlines()[-1:] or [f"ended with code {ended.returncode}"]
        return {"seconds": {}, "errors": {"torch": said[0]}}
    if found.get("torch"):
        found["torch"]["devices"] = tuple(found["torch"]["devices"])
    return found


def _pinned_names() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.partition("==")[0] for line in lines if "==" in line.partition("#")[0]]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _free_bytes(folder: Path) -> int:
    """Free disk where a folder is or would be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
