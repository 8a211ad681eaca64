"""The choice of how to draw in the memory there is, by its properties; and what it leads to."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.folder import load_model
from pipelines.decoding import decode_images
from pipelines.memory import (
    ModelBytes,
    OutOfMemoryError,
    Plan,
    WorkBytes,
    choose_plan,
    plan_for_folder,
    refusal,
)
from pipelines.placement import Placement, _bytes, ran_out
from pipelines.runners.asleep import fall_asleep

BYTES = st.integers(0, 40 * 10**9)
MODELS = st.builds(ModelBytes, text_encoder=BYTES, denoiser=BYTES, autoencoder=BYTES)
UNET, VAE = {"block_out_channels": [320, 640]}, {"block_out_channels": [128, 256, 512, 512]}
SIZES = st.tuples(st.integers(8, 512), st.integers(8, 512)).map(lambda size: (size[0] * 8, size[1] * 8))
WORKS = SIZES.map(lambda size: WorkBytes.of(UNET, VAE, size))
IMAGES = st.integers(1, 16)


@given(free=BYTES, model=MODELS, work=WORKS, images=IMAGES, gpu=st.booleans())
def test_a_plan_fits_and_draws_what_was_asked(
    free: int, model: ModelBytes, work: WorkBytes, images: int, gpu: bool
) -> None:
    plan = choose_plan(free, model, work, images, can_offload=gpu)
    if plan is None:
        return
    assert plan.needs(model, work) <= free
    assert 1 <= plan.images <= images
    assert gpu or not plan.offload


@given(free=BYTES, model=MODELS, work=WORKS, images=IMAGES, gpu=st.booleans())
def test_no_plan_means_that_the_smallest_does_not_fit(
    free: int, model: ModelBytes, work: WorkBytes, images: int, gpu: bool
) -> None:
    smallest = Plan(images=1, tiled=True, offload=gpu)
    fits = choose_plan(free, model, work, images, can_offload=gpu) is not None
    if smallest.needs(model, work) <= free:
        assert fits
    if not fits:
        assert "choose a smaller" in refusal(free, model, work, (512, 512))


@given(free=BYTES, more=BYTES, model=MODELS, work=WORKS, images=IMAGES, gpu=st.booleans())
def test_more_memory_never_changes_pixels_that_less_left_alone(
    free: int, more: int, model: ModelBytes, work: WorkBytes, images: int, gpu: bool
) -> None:
    less = choose_plan(free, model, work, images, can_offload=gpu)
    plan = choose_plan(free + more, model, work, images, can_offload=gpu)
    if less is not None:
        assert plan is not None
        assert plan.tiled <= less.tiled
        if plan.tiled == less.tiled:
            assert plan.offload <= less.offload
            if plan.offload == less.offload:
                assert plan.images >= less.images


@given(model=MODELS, work=WORKS, images=IMAGES, gpu=st.booleans())
def test_where_memory_abounds_nothing_differs_and_nothing_is_said(
    model: ModelBytes, work: WorkBytes, images: int, gpu: bool
) -> None:
    plan = choose_plan(10**15, model, work, images, can_offload=gpu)
    assert plan == Plan(images=images)
    assert plan.in_words(images) == ""


@given(size=SIZES)
def test_a_tile_needs_no_more_than_the_whole_and_more_pixels_need_no_less(size: tuple[int, int]) -> None:
    small, large = (WorkBytes.of(UNET, VAE, (width, size[1])) for width in (size[0], size[0] + 64))
    assert small.tile <= small.decode
    assert small.step < large.step
    assert small.tile <= large.tile


def test_a_student_counts_as_a_second_denoiser(tiny_model_folder: Path, taught_model_folder: Path) -> None:
    alone, with_student = map(ModelBytes.of_folder, (tiny_model_folder, taught_model_folder))
    assert with_student.denoiser == 2 * alone.denoiser


def test_a_folder_is_judged_as_the_loaded_model_is(tiny_model_folder: Path) -> None:
    model = load_model(tiny_model_folder)
    told = ModelBytes.of_folder(tiny_model_folder)
    weights = sum(one.numel() * 4 for one in model.denoiser.unet.parameters())
    assert told.denoiser == weights
    assert (
        abs(told.total - sum(map(_bytes, (model.denoiser.unet, model.autoencoder, model.text_encoder))))
        < 4096
    )
    assert plan_for_folder(tiny_model_folder, 10**12, (64, 64), can_offload=False) == Plan(images=1)
    assert plan_for_folder(tiny_model_folder, 10**6, (64, 64), can_offload=False) is None


@torch.inference_mode()
def test_pictures_decoded_one_by_one_are_those_decoded_together(tiny_model_folder: Path) -> None:
    autoencoder = load_model(tiny_model_folder).autoencoder
    latents = torch.randn(3, autoencoder.latent_channels, 8, 8)
    together = decode_images(autoencoder, latents)
    apart = decode_images(autoencoder, latents, plan=Plan(images=3, one_by_one=True))
    for one, other in zip(together, apart, strict=True):
        difference = torch.tensor(list(one.tobytes())) - torch.tensor(list(other.tobytes()))
        assert difference.abs().max() <= 1


@torch.inference_mode()
def test_networks_by_turns_draw_the_same_and_leave_no_hook(tiny_model_folder: Path) -> None:
    model = load_model(tiny_model_folder)
    placement = Placement(model, torch.device("cpu"), torch.float32)
    latents = torch.randn(1, model.autoencoder.latent_channels, 8, 8)
    before = model.autoencoder.decode(latents)
    placement.arrange(Plan(images=1, offload=True))
    assert torch.equal(model.autoencoder.decode(latents), before)
    assert model.denoiser.unet._forward_pre_hooks
    placement.arrange(Plan(images=1))
    assert not any(part._forward_pre_hooks for part in model.denoiser.unet.modules())
    assert not any(part._forward_pre_hooks for part in model.autoencoder.modules())


def test_a_unet_asleep_needs_room_only_where_torch_draws_with_it(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_model_folder)
    placement = Placement(model, torch.device("cpu"), torch.float32)
    fall_asleep(model)
    work = WorkBytes.of(model.denoiser.unet.config, model.autoencoder.vae.config, (32, 32))
    needed = Plan(images=1).needs(placement._bytes, work)
    there = placement._bytes.text_encoder + placement._bytes.denoiser  # the latter in a graph
    monkeypatch.setattr("pipelines.placement.free_memory_bytes", lambda: needed - there)
    assert placement.choose((32, 32), images=1, prompts=2) == Plan(images=1)
    with pytest.raises(OutOfMemoryError, match="choose a smaller size"):
        placement.choose((32, 32), images=1, prompts=2, on_torch=model.denoiser.unet)


@pytest.mark.cuda
def test_networks_by_turns_share_the_gpu_with_nobody(tiny_model_folder: Path) -> None:
    model, gpu = load_model(tiny_model_folder), torch.device("cuda", 0)
    placement = Placement(model, gpu, torch.float32)
    placement.arrange(Plan(images=1, offload=True))
    latents = torch.randn(1, model.autoencoder.latent_channels, 8, 8, device=gpu)
    with torch.inference_mode():
        model.autoencoder.decode(latents)
    on_gpu = [part for part in placement._by_turns if next(part.parameters()).device.type == "cuda"]
    assert on_gpu == [model.autoencoder.vae.decoder]
    assert next(model.text_encoder.parameters()).device.type == "cpu"


def test_running_out_is_told_from_other_failures() -> None:
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**50)
    assert ran_out(failure.value)
    assert ran_out(MemoryError())
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not ran_out(ValueError("out of memory"))
