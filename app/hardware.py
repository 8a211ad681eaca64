"""The accelerators of this machine, found without torch, and the build of torch that fits them."""

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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


def choose_device(build: TorchBuild | None) -> tuple[str, str]:
    """The device that `--device auto` takes, and the reason in words."""
    if build is None:
        return "none", "torch cannot be imported"
    for wanted, why in (("cuda", "the first GPU that torch can use"), ("mps", "Apple's GPU")):
        for device in build.devices:
            if device.startswith(wanted):
                return device.split(" ")[0], why
    return "cpu", "torch can use no GPU here"


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
