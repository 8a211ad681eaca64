"""On data N(MEAN, STD^2) the teacher's trajectory is known, so what a student must learn is as well."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.denoiser import Denoiser, PredictionType
from models.text_encoder import TextStates
from models.unet import build_unet
from pipelines.noise import Noise
from pipelines.samplers import SAMPLERS, make_scheduler
from tests.pipelines.gaussian import MEAN, STATES, STD, PerfectUNet, draw, perfect_denoiser, relative_error
from training.distill_objective import Distillation, StudentSampler, Window, student_windows
from training.objectives import Flow

# numpy 2 has words for how diffusers turns tensors into arrays.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PREDICTIONS: tuple[PredictionType, ...] = ("flow", "epsilon", "v_prediction")
STEPS = 4


def exact(z: Tensor, start: float, end: float, mean: float = MEAN) -> Tensor:
    """Where the flow of N(mean, STD^2) takes z = (1 - t) z_0 + t e from one time to another."""
    spread = [math.hypot((1 - t) * STD, t) for t in (start, end)]
    return (1 - end) * mean + spread[1] / spread[0] * (z - (1 - start) * mean)


def windows_of(denoiser: Denoiser, substeps: int = 1, sampler: StudentSampler = "Euler") -> list[Window]:
    return student_windows(denoiser, sampler, STEPS, substeps)


def objective(
    student: Denoiser, teacher: Denoiser, substeps: int = 4, guidance_scale: float = 1.0
) -> Distillation:
    return Distillation(student, teacher, windows_of(teacher, substeps), guidance_scale)


def words(mean: float, count: int = 1) -> TextStates:
    """States of words that stand for data of this mean, to a `Told` UNet."""
    mask = torch.ones(count, 1, dtype=torch.bool)
    return TextStates(torch.full((count, 1, 1), mean), mask, torch.zeros(count, 1))


class Told(PerfectUNet):
    """Knows of data N(mean, STD^2) whose mean its words say; predicts a flow."""

    def forward(self, z: Tensor, t: Tensor, **told: Any) -> tuple[Tensor]:
        shift = told["encoder_hidden_states"][:, :1, :, None] - MEAN  # (B, 1, 1, 1)
        return (super().forward(z - (1 - t[0] / 1000) * shift, t)[0] - shift,)


class Straight(nn.Module):
    """The student that has learned all: in each window it answers what one step needs."""

    config = PerfectUNet.config

    def __init__(self, teacher: Denoiser) -> None:
        super().__init__()
        self.teacher, self.windows = teacher, windows_of(teacher)
        self.precision = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor, t: Tensor, **_: Any) -> tuple[Tensor]:
        told = [self.teacher.timestep(one.start / (1 - one.start)) for one in self.windows]
        (number,) = (k for k, one in enumerate(told) if one == pytest.approx(float(t[0]), abs=1e-2))
        start, end = self.windows[number].start, self.windows[number].end
        size = math.hypot(1 - start, start)
        flow = self.teacher.prediction_type == "flow"
        z_t = z if flow else z * size
        moved = (exact(z_t, start, end) - z_t) / (end - start)
        if flow:
            return (moved,)
        epsilon, signal, noise = z_t + (1 - start) * moved, (1 - start) / size, start / size
        if self.teacher.prediction_type == "epsilon":
            return (epsilon,)
        return ((epsilon - noise * z) / signal,)


def learned(prediction: PredictionType) -> Denoiser:
    teacher = perfect_denoiser(prediction)
    betas = None if prediction == "flow" else teacher.unet.betas
    return Denoiser(Straight(teacher), prediction, betas)  # type: ignore[arg-type]


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("window", range(STEPS))
def test_the_teacher_takes_latents_where_the_exact_flow_does_with_second_order(
    prediction: PredictionType, window: int
) -> None:
    teacher = perfect_denoiser(prediction)
    start, end = windows_of(teacher)[window].start, windows_of(teacher)[window].end
    z = torch.linspace(-2, 2, 64, dtype=torch.float64).reshape(1, 4, 4, 4)
    errors = []
    for substeps in (8, 16, 32):
        (*_, divided) = windows_of(teacher, substeps)[: window + 1]
        arrived = objective(teacher, teacher).taken(z, divided, STATES, STATES)
        errors.append(float((arrived - exact(z, start, end)).norm() / z.norm()))
    assert errors[-1] < 3e-3
    if start > 0.1:  # the last window of epsilon and v begins where there is almost no noise
        for coarse, fine in itertools.pairwise(errors):
            assert 3 < coarse / fine < 5.5


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("window", range(STEPS))
def test_the_loss_is_the_distance_of_one_step_from_the_end_of_the_window(
    prediction: PredictionType, window: int
) -> None:
    teacher = perfect_denoiser(prediction)
    loss = objective(teacher, teacher, substeps=200)
    start, end = loss.windows[window].start, loss.windows[window].end
    latents, noise = MEAN + STD * torch.randn(3, 4, 4, 4), torch.randn(3, 4, 4, 4)
    found = loss.errors(window, latents, noise, STATES.select([0, 0, 0]), STATES)
    z = (1 - start) * latents + start * noise
    variance = ((1 - start) * STD) ** 2 + start**2
    velocity = (start - (1 - start) * STD**2) / variance * (z - (1 - start) * MEAN) - MEAN
    by_hand = (z + (end - start) * velocity - exact(z, start, end)).square().mean((1, 2, 3))
    # The last window of epsilon and v begins with almost no noise: there the teacher's own error shows.
    torch.testing.assert_close(found.sqrt(), by_hand.sqrt(), rtol=1e-3, atol=1e-5 if start > 0.1 else 3e-3)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_who_has_learned_all_has_no_loss_and_draws_the_exact_solution_in_the_same_steps(
    prediction: PredictionType,
) -> None:
    student, teacher = learned(prediction), perfect_denoiser(prediction)
    latents, noise = MEAN + STD * torch.randn(8, 4, 4, 4), torch.randn(8, 4, 4, 4)
    batch = (latents, noise, torch.arange(8) % STEPS, STATES.select([0] * 8), STATES)
    best, _ = objective(student, teacher, substeps=200)(*batch)
    untaught, _ = objective(teacher, teacher, substeps=200)(*batch)
    assert float(best) < 1e-3 * float(untaught)
    euler = SAMPLERS["Euler"]
    taught, plain = (
        relative_error(*draw(one, make_scheduler(euler, "Automatic", one, STEPS)))
        for one in (student, teacher)
    )
    assert taught < 1e-3 < plain


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_windows_begin_where_the_sampler_asks(prediction: PredictionType) -> None:
    denoiser = perfect_denoiser(prediction)
    _, events = draw(denoiser, make_scheduler(SAMPLERS["Euler"], "Automatic", denoiser, STEPS))
    visited = [event.sigma / (1 + event.sigma) for event in events]
    windows = windows_of(denoiser, 3)
    assert [window.start for window in windows] == visited
    assert [window.end for window in windows] == [*visited[1:], 0.0]
    assert [window.substeps for window in windows] == [3] * STEPS


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_an_ancestral_step_ends_where_its_sampler_comes_before_it_adds_noise(
    prediction: PredictionType,
) -> None:
    """By diffusers' own step on a straight line, x0 + sigma e, with the noise taken away."""
    denoiser = perfect_denoiser(prediction)
    scheduler = make_scheduler(SAMPLERS["Euler a"], "Automatic", denoiser, STEPS)
    windows = windows_of(denoiser, 3, "Euler a")
    noise = torch.ones(1, 1, 1, 1)
    for number, level in enumerate(scheduler.timesteps):
        sigma, generator = scheduler.sigmas[number], torch.Generator().manual_seed(number)
        x = sigma * noise  # x0 is 0
        scheduler.scale_model_input(x, level)
        arrived = scheduler.step(noise, level, x, generator).prev_sample
        added = torch.randn(x.shape, generator=torch.Generator().manual_seed(number))
        following = scheduler.sigmas[number + 1]
        up = following * (1 - (following / sigma) ** 2) ** 0.5
        down = float(arrived - up * added)
        assert windows[number].start == pytest.approx(float(sigma / (1 + sigma)))
        assert windows[number].end == pytest.approx(down / (1 + down), abs=1e-5)
    plain = windows_of(denoiser, 3)
    assert [window.start for window in windows] == [window.start for window in plain]
    for longer, shorter in zip(windows[:-1], plain[:-1], strict=True):
        each = (shorter.start - shorter.end) / 3
        assert longer.end < shorter.end
        assert 0.5 * each < (longer.start - longer.end) / longer.substeps <= each * 1.001  # nor coarser
    assert windows[-1] == plain[-1]


def test_a_batch_of_several_windows_has_the_mean_of_its_rows() -> None:
    loss = objective(perfect_denoiser("flow"), perfect_denoiser("flow"))
    latents, noise = torch.randn(5, 4, 4, 4), torch.randn(5, 4, 4, 4)
    window = torch.tensor([2, 0, 2, 3, 0])  # and none of another
    together, _ = loss(latents, noise, window, STATES.select([0] * 5), STATES)
    alone = [
        float(loss.errors(int(window[i]), latents[i : i + 1], noise[i : i + 1], STATES, STATES))
        for i in range(5)
    ]
    assert float(together) == pytest.approx(sum(alone) / 5, rel=1e-5)


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 3.0])
def test_the_guided_teacher_walks_to_where_guidance_leads(guidance_scale: float) -> None:
    """Predictions of N(m, s^2) are linear in m, so guidance is the flow to u + g (c - u)."""
    teacher = Denoiser(Told("flow", None), "flow")
    loss = objective(teacher, teacher, 200, guidance_scale)
    z = torch.randn(2, 4, 4, 4)
    window = loss.windows[1]
    taken = loss.taken(z, window, words(0.8, 2), words(-0.2))
    led = exact(z, window.start, window.end, mean=-0.2 + guidance_scale * (0.8 + 0.2))
    torch.testing.assert_close(taken, led, atol=2e-3, rtol=2e-3)


def test_gradients_reach_the_student_alone() -> None:
    student, teacher = build_unet("tiny", 4, 32), build_unet("tiny", 4, 32)
    for network in (student, teacher):
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.05)
    loss = objective(Denoiser(student, "flow"), Denoiser(teacher.requires_grad_(False), "flow"))
    spoken = TextStates(torch.randn(4, 3, 32), torch.ones(4, 3, dtype=torch.bool), torch.randn(4, 32))
    batch = (torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8), torch.arange(4), spoken, spoken.select([0]))
    loss(*batch)[0].backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


class Learner(nn.Module):
    """A student as small as can be: in each window a multiple of the unguided answer, and a shift."""

    config = PerfectUNet.config

    def __init__(self, teacher: Denoiser) -> None:
        super().__init__()
        self.teacher_unet, self.starts = teacher.unet, [window.start for window in windows_of(teacher)]
        self.scale, self.shift = nn.Parameter(torch.ones(STEPS)), nn.Parameter(torch.zeros(STEPS))

    def forward(self, z: Tensor, t: Tensor, **told: Any) -> tuple[Tensor]:
        window = [round(1000 * time) for time in self.starts].index(round(float(t[0])))
        return (self.scale[window] * self.teacher_unet(z, t, **told)[0] + self.shift[window],)


def trained(network: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float) -> None:
    optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


def drawn(
    denoiser: Denoiser, steps: int, cond: TextStates, uncond: TextStates, guidance_scale: float = 1.0
) -> Tensor:
    scheduler = make_scheduler(SAMPLERS["Euler"], "Automatic", denoiser, steps)
    told: dict[str, Any] = {"cond": cond, "uncond": uncond, "guidance_scale": guidance_scale}
    return draw(denoiser, scheduler, Noise(list(range(8))), (4, 4, 4), **told)[0]


@pytest.mark.slow
def test_training_brings_a_student_to_where_the_guided_teacher_walks() -> None:
    torch.manual_seed(0)
    teacher = Denoiser(Told("flow", None).requires_grad_(False), "flow")
    student = Denoiser(Learner(teacher), "flow")
    loss, said, nothing = objective(student, teacher, 8, guidance_scale=3.0), words(0.8), words(-0.2)

    def to_arrive() -> Tensor:
        # Wide enough to hold where guidance leads, which is far from the data here.
        latents, noise = 0.8 + 3 * torch.randn(32, 4, 4, 4), torch.randn(32, 4, 4, 4)
        found: Tensor = loss(latents, noise, torch.arange(32) % STEPS, said.select([0] * 32), nothing)[0]
        return found

    before, many = drawn(student, STEPS, said, nothing), drawn(teacher, 200, said, nothing, 3.0)
    trained(student.unet, to_arrive, 200, 0.1)
    few, taught = drawn(teacher, STEPS, said, nothing, 3.0), drawn(student, STEPS, said, nothing)
    assert (taught - many).norm() < 0.1 * (few - many).norm()
    assert (taught - many).norm() < 0.02 * (before - many).norm()


@pytest.mark.slow
def test_a_student_comes_nearer_to_many_steps_of_its_teacher_than_as_few_of_them_do() -> None:
    torch.manual_seed(0)
    said = TextStates(torch.randn(1, 3, 32), torch.ones(1, 3, dtype=torch.bool), torch.randn(1, 32))
    unet, pupil = build_unet("tiny", 4, 32), build_unet("tiny", 4, 32)
    flow, centre = Flow(unet), torch.randn(4, 4, 4)

    def rows(count: int) -> tuple[Tensor, Tensor]:
        return centre + STD * torch.randn(count, 4, 4, 4), torch.randn(count, 4, 4, 4)

    def to_denoise() -> Tensor:
        at = flow.timesteps(torch.rand(24))
        found: Tensor = flow(*rows(24), at, said.select([0] * 24))[0]
        return found

    trained(unet, to_denoise, 200, 4e-3)
    pupil.load_state_dict(unet.state_dict())
    teacher, student = (Denoiser(one, "flow") for one in (unet.eval().requires_grad_(False), pupil))
    loss = objective(student, teacher, substeps=3)

    def to_arrive() -> Tensor:
        found: Tensor = loss(*rows(16), torch.arange(16) % STEPS, said.select([0] * 16), said)[0]
        return found

    trained(pupil, to_arrive, 80, 1e-3)
    many, few, taught = (
        drawn(one, steps, said, said) for one, steps in ((teacher, 20), (teacher, STEPS), (student, STEPS))
    )
    assert (taught - many).norm() < 0.6 * (few - many).norm()
