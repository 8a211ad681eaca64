import copy

import torch
from torch import nn

from models.text_encoder import TextStates
from tests.tiny import tiny_text_encoder
from tests.training.test_lora import ATTENTION, output, random_unet, trained
from training.config import DiffusionModel
from training.objectives import build_objective
from training.preserve import KeptThings, Preserving


def a_batch(rows=6):
    generator = torch.Generator().manual_seed(3)
    latents, noise, hidden, pooled = (
        torch.randn(shape, generator=generator)
        for shape in ((rows, 4, 8, 8), (rows, 4, 8, 8), (rows, 5, 32), (rows, 32))
    )
    timestep = torch.linspace(100, 900, rows)
    return latents, noise, timestep, TextStates(hidden, torch.ones(rows, 5, dtype=torch.bool), pooled)


def test_kept_rows_are_pulled_to_the_answer_before_and_the_others_to_the_pictures() -> None:
    unet = random_unet()
    plain = copy.deepcopy(unet)
    lora = trained(unet, 2, 2, ATTENTION)
    objective = build_objective(unet, DiffusionModel())
    batch = a_batch()
    kept = torch.tensor([True, False, False, True, True, False])
    loss, metrics = Preserving(objective, lora)(*batch, None, kept)
    with torch.no_grad():
        usual = objective.errors(*batch)
        z_t = objective.noised(*batch[:3])
        answers = [
            network(z_t, batch[2], batch[3].hidden, class_labels=batch[3].pooled).sample
            for network in (unet, plain)
        ]
    forgotten = (answers[0] - answers[1]).square().flatten(1).mean(1)
    assert forgotten.min() > 0
    assert torch.allclose(loss, torch.where(kept, forgotten, usual).mean(), rtol=1e-4)
    assert torch.allclose(metrics["taught_loss"], usual[~kept].mean(), rtol=1e-4)
    loss.backward()
    assert all(parameter.grad is not None for parameter in lora.adapter.parameters())


def test_new_adapters_have_nothing_to_preserve_yet() -> None:
    unet = random_unet()
    before = output(unet)
    from training.lora import Lora

    lora = Lora(unet, 2, 0, ATTENTION)
    _, metrics = Preserving(build_objective(unet, DiffusionModel()), lora)(
        *a_batch(), None, torch.ones(6, dtype=torch.bool)
    )
    assert float(metrics["preserved_loss"]) < 1e-10
    assert torch.equal(output(unet), before)
    assert all(parameter.requires_grad for parameter in lora.adapter.parameters())


def test_other_things_are_drawn_once_and_said_to_be_what_they_are() -> None:
    encoder, objective = tiny_text_encoder(), build_objective(random_unet(), DiffusionModel())
    things = KeptThings(encoder, ["dog face", "a dog face"], share=0.5, seed=0)
    assert len(things.captions) > 1000
    assert not [caption for caption in things.captions if "dog face" in caption]
    things.drawn = things.drawn[:3]
    things.draw(objective.denoiser(objective.unet), (4, 8, 8), 2.0)
    assert things.latents is not None
    assert things.latents.shape == (3, 4, 8, 8)
    assert not things.latents.is_inference()
    choices, times = torch.tensor([0.0, 0.5, 0.99, 0.99]), torch.tensor([100.0, 900.0, 100.0, 900.0])
    latents, states = things.rows(choices, torch.tensor([0.0, 0.1, 0.999999, 0.999999]), times)
    assert torch.equal(latents, things.latents[[0, 1, 2, 2]])
    expected = encoder.encode(["", "", things.drawn[2], things.captions[-1]])
    assert torch.equal(states.pooled, expected.pooled)

    taught, words = torch.zeros(4, 4, 8, 8), encoder.encode(["dog face"] * 4)
    latents, states, kept = things.put_among(taught, words, times, step=0, positions=range(4, 8))
    assert kept.tolist() == [False, True, False, True]
    assert [bool(one.any()) for one in latents] == kept.tolist()
    assert torch.equal(states.pooled[0], words.pooled[0])
    two = [
        things.put_among(taught[:2], words.select([0, 1]), times[i : i + 2], 0, range(4 + i, 6 + i))
        for i in (0, 2)
    ]
    assert torch.equal(torch.cat([part[0] for part in two]), latents)  # whichever process draws them


def test_the_loss_is_of_a_module_that_may_be_moved() -> None:
    lora = trained(unet := random_unet(), 2, 2, ATTENTION)
    module = Preserving(build_objective(unet, DiffusionModel()), lora)
    assert isinstance(module, nn.Module)
    assert {id(p) for p in module.parameters()} == {id(p) for p in unet.parameters()}
