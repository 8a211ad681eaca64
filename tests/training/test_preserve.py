import copy

import torch
from torch import Tensor, nn

from models.text_encoder import TextStates
from tests.tiny import tiny_text_encoder
from tests.training.test_lora import ATTENTION, output, random_unet, trained
from training.config import DiffusionModel
from training.objectives import build_objective
from training.preserve import KeptWords, Preserving


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

    def answer(network: nn.Module, z_t: Tensor, timestep: Tensor) -> Tensor:
        return network(z_t, timestep, batch[3].hidden, class_labels=batch[3].pooled).sample

    with torch.no_grad():
        usual = objective.errors(*batch)
        _, noise, timestep, _ = batch
        # In noise alone, then in what was seen there with less of it, the flow looks along its velocity.
        seen = noise - 0.999 * answer(plain, noise, torch.full((6,), 999.0))
        z_t = 0.3 * seen + 0.7 * noise
        seen = z_t - 0.7 * answer(plain, z_t, torch.full((6,), 700.0))
        z_t = objective.noised(seen, noise, timestep)
        answers = [answer(network, z_t, timestep) for network in (unet, plain)]
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


def test_other_words_are_not_those_that_are_taught_and_some_are_none() -> None:
    encoder = tiny_text_encoder()
    words = KeptWords(encoder, ["dog face", "a dog face"])
    assert len(words.captions) > 1000
    assert not [caption for caption in words.captions if "dog face" in caption]
    for choice, caption in ((0.0, ""), (0.999999, words.captions[-1])):
        states, expected = words.states(torch.tensor([choice])), encoder.encode([caption])
        assert torch.equal(states.pooled, expected.pooled)


def test_the_loss_is_of_a_module_that_may_be_moved() -> None:
    lora = trained(unet := random_unet(), 2, 2, ATTENTION)
    module = Preserving(build_objective(unet, DiffusionModel()), lora)
    assert isinstance(module, nn.Module)
    assert {id(p) for p in module.parameters()} == {id(p) for p in unet.parameters()}
