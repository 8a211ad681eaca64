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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.preparing import start
from app.settings import Settings
from app.threads import threads_of
from models.defaults import read_defaults
from models.errors import ModelError, StudioError
from models.machine import free_memory_bytes
from pipelines.memory import plan_for_folder

ROOT = Path(__file__).resolve().parents[1]
# In the order in which `generate` and the page meet them: what one has loaded is free for the next.
TIMED_IMPORTS = (
    "torch",
    "transformers",
    "diffusers.models.unets.unet_2d_condition",
    "pipelines.engine",
    "gradio",
)
CUDA_INDEX, ROCM_INDEX = (f"https://download.pytorch.org/whl/{build}" for build in ("cu130", "rocm7.2"))
NVIDIA_VENDOR, AMD_VENDOR = "0x10de", "0x1002"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The accelerators of this machine, found without torch."""

    nvidia: tuple[str, ...]
    amd: tuple[str, ...]
    apple_silicon: bool

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.nvidia, *self.amd, *(("Apple silicon",) if self.apple_silicon else ()))

    @classmethod
    def of_this_machine(cls) -> "Hardware":
        """Ask the drivers and the PCI bus."""
        apple_silicon = platform.system() == "Darwin" and platform.machine() == "arm64"
        return cls(nvidia=nvidia_gpus(), amd=_on_the_bus(AMD_VENDOR, "AMD GPU"), apple_silicon=apple_silicon)


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchBuild:
    """What a torch was built for (cuda and hip: versions or None), and which devices it can use here."""

    version: str
    cuda: str | None
    hip: str | None
    devices: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The build in words."""
        if self.cuda is not None:
            return f"CUDA {self.cuda}"
        return f"ROCm {self.hip}" if self.hip is not None else "CPU"


def main(model: Path, as_json: bool, prepare: bool) -> int:
    """Print the report; exit code 1 when something that Latent Studio needs is missing or broken.

    To `prepare` a model is to convert it for OpenVINO and to measure both engines.
    """
    if prepare and (code := start(model).wait()):
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
    from training.runs import runs_folder

    outputs = Settings.from_environment().outputs
    hardware = Hardware.of_this_machine()
    packages = {name: _version(name) for name in _pinned_names()}
    probed = _probe_in_another_process(model)
    build = TorchBuild(**probed["torch"]) if probed.get("torch") else None
    device, why = choose_device(build)
    threads = threads_of(os.environ)
    models = [str(path) for root in (ROOT / "checkpoints", runs_folder()) for path in find_models(root)]
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


def choose_device(build: TorchBuild | None) -> tuple[str, str]:
    """The device that `--device auto` takes, and the reason in words."""
    if build is None:
        return "none", "torch cannot be imported"
    for wanted, why in (("cuda", "the first GPU that torch can use"), ("mps", "Apple's GPU")):
        for device in build.devices:
            if device.startswith(wanted):
                return device.split(" ")[0], why
    return "cpu", "torch can use no GPU here"


def choose_engine(device: str, why: str, measured: dict[str, Any] | None, model: Path) -> dict[str, Any]:
    """The engine that `--engine auto` takes for a model, and the reason in words."""
    if device != "cpu":
        return {"name": "torch", "device": device, "why": why}
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


def better_torch(hardware: Hardware, build: TorchBuild) -> str | None:
    """One sentence with the line to type when another build of torch fits the hardware better."""
    if any(not device.startswith("cpu") for device in build.devices):
        return None
    # The version stays as it is pinned: it counts as installed whatever it was built for.
    command = f"{sys.executable} -m pip install --force-reinstall torch=={build.version.partition('+')[0]}"
    if hardware.nvidia:
        if build.cuda is None:
            return (
                f"This machine has an NVIDIA GPU ({hardware.nvidia[0]}) that this torch, built for "
                f"{build.kind}, cannot use; type: {command} --index-url {CUDA_INDEX}"
            )
        return (
            f"torch is built for CUDA {build.cuda} but cannot use {hardware.nvidia[0]}: type `nvidia-smi` to "
            "see the driver, and update it if that fails or shows an older CUDA version."
        )
    if hardware.amd and build.hip is None and platform.system() == "Linux":
        return (
            f"This machine has an {hardware.amd[0]} that this torch, built for {build.kind}, cannot use; "
            f"if ROCm knows it, type: {command} --index-url {ROCM_INDEX}"
        )
    if hardware.apple_silicon:
        return f"This torch cannot use Apple's GPU; macOS 14 or newer is needed; type: {command}"
    return None


def nvidia_gpus() -> tuple[str, ...]:
    """The NVIDIA GPUs by name, from the driver, or from the PCI bus where no driver answers."""
    nvidia_smi = shutil.which("nvidia-smi")
    if nvidia_smi is not None:
        try:
            listed = subprocess.run(  # noqa: S603
                [nvidia_smi, "-L"], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            listed = None
        if listed is not None and listed.returncode == 0:
            # GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-...)
            names = [line.partition(": ")[2].partition(" (UUID")[0] for line in listed.stdout.splitlines()]
            return tuple(name for name in names if name)
    return _on_the_bus(NVIDIA_VENDOR, "NVIDIA GPU")


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


def _on_the_bus(vendor: str, name: str) -> tuple[str, ...]:
    """One name for each display device of a vendor on Linux's PCI bus."""
    devices = sorted(Path("/sys/bus/pci/devices").glob("*"))
    return tuple(
        f"{name} at {device.name}"
        for device in devices
        if _text(device / "vendor") == vendor and _text(device / "class").startswith("0x03")
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


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
