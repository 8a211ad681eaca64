import json

import pytest
import torch
from PIL import Image
from torch import nn

from models.class_encoder import ClassEncoder
from models.errors import ConfigError, DataError
from models.text_encoder import TextEncoder
from models.unet import build_unet
from training.conditions import (
    Captions,
    Classes,
    JointObjective,
    build_text_encoder,
    choose_words,
    read_words,
)
from training.config import Data, DiffusionConfig, DiffusionModel, Init
from training.data.pictures import load_pictures
from training.objectives import build_objective
from training.seeds import uniform


@pytest.fixture
def labelled(tmp_path):
    """Pictures of three classes and one without; the two last are held out, one of a class of its own."""
    folder, rows = tmp_path / "labelled", []
    for number, label in enumerate(("dog", "cat", "", "dog", "cow", "cat")):
        name = f"{label or '.'}/{number}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (40 * number, 0, 0)).save(folder / name)
        split = "train" if number < 4 else "test"
        rows.append({"file_name": name, "split": split, "text": "t", "label": label})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def pictures_of(folder):
    return load_pictures(Data(path=str(folder), resolution=32))


def text_encoder(folder, **values):
    return build_text_encoder(DiffusionModel(text_encoder=str(folder), **values))


def by_class(folder, **values):
    return DiffusionConfig(Data(path=str(folder)), DiffusionModel(condition="class"), **values)


def test_a_text_encoder_is_frozen_trained_on_or_begun_anew(tiny_model_folder):
    frozen = text_encoder(tiny_model_folder)
    tuned = text_encoder(tiny_model_folder, train_text_encoder="finetune")
    fresh = text_encoder(tiny_model_folder, train_text_encoder="scratch", text_layers=3)
    assert [next(one.parameters()).requires_grad for one in (frozen, tuned, fresh)] == [False, True, True]
    prompts = ["a red apple"]
    assert torch.equal(frozen.encode(prompts).hidden, tuned.encode(prompts).hidden)
    assert not torch.allclose(frozen.encode(prompts).hidden, fresh.encode(prompts).hidden)
    assert fresh.encoder.config.num_hidden_layers == 3


def test_an_encoder_that_shares_tensors_is_not_trained(tmp_path):
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0)]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0)
    config = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    TextEncoder(T5EncoderModel(config), tokenizer).save(tmp_path)
    assert text_encoder(tmp_path).encode(["a"]).hidden.shape[2] == 16
    with pytest.raises(ConfigError, match=r"model\.train_text_encoder: T5EncoderModel cannot be trained"):
        text_encoder(tmp_path, train_text_encoder="finetune")


def test_classes_are_the_labels_of_the_pictures_to_learn_from(labelled):
    train, held_out, _ = pictures_of(labelled)
    words, encoder = read_words(train, None, by_class(labelled))
    assert encoder.names == ("", "cat", "dog")
    assert [words.text(words.of(train, i)[0]) for i in range(4)] == ["dog", "cat", "", "dog"]
    assert [words.text(words.of(held_out, i)[0]) for i in range(2)] == ["", "cat"]
    nothing = DiffusionConfig(model=DiffusionModel(condition="none"))
    words, encoder = read_words(train, None, nothing)
    assert encoder.names == ("",)
    assert {words.of(train, i)[0] for i in range(4)} == {0}


def test_pictures_without_classes_are_refused_where_classes_are_asked_for(picture_folder):
    with pytest.raises(DataError, match="has a class; put those of a class into a folder of its name"):
        read_words(pictures_of(picture_folder)[0], None, by_class(picture_folder))


def test_classes_go_on_from_what_a_model_knows_of_them(labelled, tmp_path):
    known = ClassEncoder(["cow", "cat"])
    known.save(tmp_path / "known")
    config = by_class(labelled, init=Init(model=str(tmp_path / "known")))
    _, encoder = read_words(pictures_of(labelled)[0], None, config)
    names = ["cat", ""]
    torch.testing.assert_close(encoder.encode(names).pooled, known.encode(names).pooled, atol=2e-3, rtol=0)


@pytest.mark.parametrize("kind", ["text", "class"])
def test_words_are_dropped_as_often_as_asked(labelled, kind):
    train, *_ = pictures_of(labelled)
    words = Captions(train.index) if kind == "text" else Classes(["cat", "dog"])
    indices = [0, 1, 3] * 1000
    drops, choices = (uniform(0, 0, range(3000), purpose) for purpose in ("drop", "choice"))
    for rate, low, high in ((0.0, 0, 0), (0.1, 225, 375), (1.0, 3000, 3000)):
        drawn = choose_words(words, train, indices, drops, choices, rate)
        assert low <= drawn.count(0) <= high
    drawn = choose_words(words, train, indices, drops, choices, 0.0)
    assert all(number in words.of(train, i) for number, i in zip(drawn, indices, strict=True))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"condition": "class", "train_text_encoder": "scratch"}, "reads no text"),
        ({"text_layers": 2}, "text_layers is 2"),
        ({"text_layers": 2, "train_text_encoder": "finetune"}, "text_layers is 2"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values, words):
    with pytest.raises(ConfigError, match=words):
        DiffusionModel(**values)


@pytest.mark.parametrize("words", ["scratch", "classes"])
def test_gradients_of_the_denoisers_loss_reach_every_part_of_the_encoder(tiny_model_folder, words):
    encoder = ClassEncoder(["cat", "dog"])
    if words == "scratch":
        encoder = text_encoder(tiny_model_folder, train_text_encoder="scratch")
    unet = build_unet("tiny", 4, encoder.dim)
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.05)
    objective = JointObjective(build_objective(unet, DiffusionModel()), encoder)
    latents, noise, timestep = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.rand(3) * 1000
    loss, _ = objective(latents, noise, timestep, encoder.tokenize(["", "cat", "dog"]))
    loss.backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []
