"""Which build of torch and which device fit which hardware."""

import os
import sys
from pathlib import Path

import pytest

from app.hardware import Hardware, TorchBuild, better_torch, choose_device, nvidia_gpus

NO_GPU = Hardware(nvidia=(), amd=(), apple_silicon=False)
NVIDIA = Hardware(nvidia=("NVIDIA GeForce RTX 4090",), amd=(), apple_silicon=False)
AMD = Hardware(nvidia=(), amd=("AMD GPU at 0000:03:00.0",), apple_silicon=False)
APPLE = Hardware(nvidia=(), amd=(), apple_silicon=True)
FOR_CPU = TorchBuild(version="2.13.0+cpu", cuda=None, hip=None, devices=("cpu",))
FOR_CUDA_UNUSED = TorchBuild(version="2.13.0+cu130", cuda="13.0", hip=None, devices=("cpu",))
FOR_CUDA = TorchBuild(
    version="2.13.0+cu130", cuda="13.0", hip=None, devices=("cuda:0 NVIDIA GeForce RTX 4090", "cpu")
)
FOR_APPLE = TorchBuild(version="2.13.0", cuda=None, hip=None, devices=("mps", "cpu"))


def test_a_cpu_build_beside_an_nvidia_gpu_gets_the_line_to_type() -> None:
    advice = better_torch(NVIDIA, FOR_CPU)
    assert advice is not None
    assert "RTX 4090" in advice
    assert f"{sys.executable} -m pip install --force-reinstall torch==2.13.0 --index-url " in advice
    assert advice.endswith("/cu130")


def test_a_cuda_build_that_finds_no_gpu_points_to_the_driver() -> None:
    advice = better_torch(NVIDIA, FOR_CUDA_UNUSED)
    assert advice is not None
    assert "nvidia-smi" in advice
    assert "pip" not in advice


@pytest.mark.parametrize(
    ("hardware", "build"),
    [(NO_GPU, FOR_CPU), (NO_GPU, FOR_CUDA_UNUSED), (NVIDIA, FOR_CUDA), (APPLE, FOR_APPLE)],
    ids=["no GPU, CPU build", "no GPU, CUDA build", "GPU in use", "Apple's GPU in use"],
)
def test_what_fits_gets_no_advice(hardware: Hardware, build: TorchBuild) -> None:
    assert better_torch(hardware, build) is None


@pytest.mark.skipif(sys.platform != "linux", reason="ROCm wheels are Linux's")
def test_an_amd_gpu_gets_the_rocm_line() -> None:
    advice = better_torch(AMD, FOR_CPU)
    assert advice is not None
    assert "rocm" in advice


@pytest.mark.parametrize(
    ("build", "device"), [(FOR_CUDA, "cuda:0"), (FOR_APPLE, "mps"), (FOR_CPU, "cpu"), (None, "none")]
)
def test_the_first_gpu_is_taken_before_the_cpu(build: TorchBuild | None, device: str) -> None:
    assert choose_device(build)[0] == device


def write_nvidia_smi(folder: Path, script: str) -> Path:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return folder


def test_gpus_are_named_as_the_driver_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\\nGPU 1: Tesla T4 (UUID: GPU-2)\\n"
    write_nvidia_smi(tmp_path, f"printf '{two}'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert nvidia_gpus() == ("NVIDIA H100 80GB HBM3", "Tesla T4")


@pytest.mark.skipif(bool(nvidia_gpus()), reason="there is an NVIDIA GPU in this machine")
def test_a_driver_that_fails_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nvidia_smi(tmp_path, "echo NVIDIA-SMI has failed; exit 9")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert nvidia_gpus() == ()
