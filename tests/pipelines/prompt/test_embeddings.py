"""Learned words in prompts: files of every form, chunks, pictures, and the same pixels as diffusers'."""

import copy
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from models.embeddings import embeddings_folder, read_embedding_file
from models.errors import ModelError, RequestError
from models.text_encoder import TextEncoder
from pipelines.export import encode_picture
from pipelines.infotext import parse_infotext
from pipelines.inside.words import words_of
from pipelines.local_engine import LocalEngine
from pipelines.prompt.attention import parse_attention
from pipelines.prompt.chunks import Tokens, count_tokens
from pipelines.prompt.embeddings import Embeddings, split_names
from pipelines.prompt.encode import PromptEncoder
from pipelines.prompt.expand import PromptFiles
from pipelines.request import GenerationRequest
from tests.diffusers_pipelines import WIDTH, draw, stable_diffusion
from tests.models.families import family_tokenizer

CLIP = Tokens(family_tokenizer("clip_text_model"), 12, continues=True)  # ten tokens, a letter each


def save(
    folder: Path, name: str, vectors: int = 2, width: int = WIDTH, key: str = "emb_params", seed: int = 0
):
    """An embedding file of a single tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    save_file({key: torch.randn(vectors, width, generator=generator)}, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("vectors", [1, 3])
@pytest.mark.parametrize("key", ["<zorp>", "emb_params"])
def test_pixels_are_those_of_diffusers_load_textual_inversion(vectors, key, tmp_path: Path) -> None:
    pipeline = stable_diffusion()
    theirs = copy.deepcopy(pipeline)
    theirs.load_textual_inversion(save(tmp_path, "zorp", vectors, key=key), token="zorp")
    encoder = TextEncoder(pipeline.text_encoder, pipeline.tokenizer)
    ours = PromptEncoder(encoder, Embeddings(tmp_path))
    for prompt, negative in (("a zorp on", "red"), ("a dog", "bad zorp")):
        states = {"prompt_embeds": ours.encode(prompt), "negative_prompt_embeds": ours.encode(negative)}
        drawn = draw(pipeline, **{name: one.hidden for name, one in states.items()})
        assert np.abs(drawn - draw(theirs, prompt=prompt, negative_prompt=negative)).max() < 1e-4
        assert np.abs(drawn - draw(pipeline, prompt=prompt, negative_prompt=negative)).max() > 1e-3
    # Nothing of it stays in the encoder.
    plain = PromptEncoder(encoder).encode("a zorp on")
    assert torch.equal(plain.hidden, encoder.encode(["a zorp on"]).hidden)


def places(text: str, learned: dict[str, int]) -> list[str]:
    """The chunks of a text: a letter for a token, + for a vector."""
    vocabulary = {number: token for token, number in family_tokenizer("clip_text_model").get_vocab().items()}
    return [
        "".join("+" if one.learned else vocabulary[one.number].removesuffix("</w>") for one in chunk)
        for chunk in CLIP.read(parse_attention(text), learned).chunks
    ]


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("a zorp b", ["a+++b"]),
        ("ZORP", ["+++"]),
        ("(zorp:1.2), x", ["+++,x"]),
        ("zorps xzorp zorp_", ["zorpsxzorp", "zorp_"]),
        ("abcdefgh zorp", ["abcdefgh", "+++"]),  # vectors stay together
        ("abcdefg zorp x", ["abcdefg+++", "x"]),
        ("abc, defghi zorp", ["abc,", "defghi+++"]),
        ("zorp-bad", ["+"]),  # the longest name
        ("zorp BREAK zorp", ["+++", "+++"]),
    ],
)
def test_a_learned_word_takes_the_room_of_its_vectors_in_one_chunk(text: str, chunks: list[str]) -> None:
    assert places(text, {"zorp": 3, "zorp-bad": 1}) == chunks


@given(
    st.text("ab ,-z", max_size=60),
    st.dictionaries(st.text("ab-", min_size=1, max_size=4), st.integers(1, 10), max_size=4),
)
def test_nothing_of_a_text_is_lost_and_no_chunk_is_too_long(words: str, learned: dict[str, int]) -> None:
    pieces = split_names(words, learned)
    assert "".join("".join(piece.split()) for piece, _ in pieces) == "".join(words.split())
    chunks = CLIP.read(parse_attention(words), learned).chunks
    assert all(len(chunk) <= CLIP.size for chunk in chunks)
    vectors = [token.learned for chunk in chunks for token in chunk if token.learned is not None]
    wanted = [(name, n) for _, name in pieces if name is not None for n in range(learned[name])]
    assert vectors == wanted
    numbers = [token.number for chunk in chunks for token in chunk if token.learned is None]
    apart = [CLIP.read([(piece, 1.0)]).chunks for piece, name in pieces if name is None]
    assert numbers == [token.number for read in apart for chunk in read for token in chunk]


def test_names_are_found_in_any_script_and_case() -> None:
    names = ("Straße", "貓咪", "<zorp>", "bad-hands-5")
    found = [name for _, name in split_names("STRAßE, 貓咪 <ZORP>, Bad-Hands-5x bad-hands-5", names)]
    assert found == ["Straße", None, "貓咪", "<zorp>", None, "bad-hands-5"]


def test_the_count_of_tokens_has_the_vectors_in_it() -> None:
    assert count_tokens("a zorp b", CLIP, 4, learned={"zorp": 3}).count == 5
    bert = Tokens(family_tokenizer("bert"), 16, continues=False)
    assert count_tokens("a zorp dog", bert, 4, learned={"zorp": 13}).cut == "dog"
    assert count_tokens("a dog zorp", bert, 4, learned={"zorp": 13}).cut == "zorp"


def test_files_of_every_form_are_read_and_others_refused_by_what_they_hold(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    forms = (
        ({"<zorp>": torch.zeros(4)}, 1, {"text_encoder": 4}),
        ({"emb_params": torch.zeros(3, 4)}, 3, {"text_encoder": 4}),
        (
            {"clip_l": torch.zeros(2, 4), "clip_g": torch.zeros(2, 6)},
            2,
            {"text_encoder": 4, "text_encoder_2": 6},
        ),
    )
    for tensors, vectors, widths in forms:
        save_file(tensors, file)
        read = read_embedding_file(file)
        assert (read.vectors, dict(read.widths)) == (vectors, widths)
        assert all(read.load(part).shape == (vectors, width) for part, width in widths.items())
    assert read.misfit({"text_encoder": 4, "text_encoder_2": 6}, 75) is None
    assert "two text encoders" in (read.misfit({"text_encoder": 4}, 75) or "")
    assert "have 6 numbers" in (read.misfit({"text_encoder": 4, "text_encoder_2": 5}, 75) or "")
    assert "has 2 vectors" in (read.misfit({"text_encoder": 4, "text_encoder_2": 6}, 1) or "")
    for tensors in (
        {"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)},
        {"a": torch.zeros(2, 2, 2)},
        {"clip_l": torch.zeros(2, 4), "clip_g": torch.zeros(3, 6)},
    ):
        save_file(tensors, file)
        with pytest.raises(ModelError, match="is no embedding"):
            read_embedding_file(file)


def asked(prompt: str, **options: object) -> GenerationRequest:
    values = {"width": 32, "height": 32, "steps": 2, "guidance_scale": 2.0, "sampler": "Euler", "seed": 1}
    return GenerationRequest(prompt=prompt, **{**values, **options})


def drawn(engine: LocalEngine, prompt: str, **options: object):
    *_, result = engine.generate(asked(prompt, **options))
    return result, np.asarray(result.images[0])


@pytest.fixture
def engine(tiny_model_folder: Path, tmp_path: Path) -> LocalEngine:
    """A BERT that reads `zorp`; `wide` is of another width, `old` a pickle."""
    save(tmp_path / "embeddings", "zorp")
    save(tmp_path / "embeddings", "wide", width=5)
    (tmp_path / "embeddings" / "old.pt").write_bytes(b"\x80\x04.")
    return LocalEngine(tiny_model_folder, "cpu", files=PromptFiles(tmp_path))


@pytest.mark.slow
def test_a_learned_word_changes_the_picture_and_stands_in_it(engine: LocalEngine, tmp_path: Path) -> None:
    _, plain = drawn(engine, "a red dog")
    result, learned = drawn(engine, "a red zorp", negative_prompt="blue")
    assert not np.array_equal(plain, learned)
    file = tmp_path / "embeddings" / "zorp.safetensors"
    digits = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    assert result.embeddings == f"zorp: {digits}"
    data = encode_picture(
        result.images[0],
        "PNG",
        result.pictures[0],
        model_name=result.model_name,
        model_id=result.model_id,
        extra=result.drawn_by,
    )
    (tmp_path / "a.png").write_bytes(data)
    with Image.open(tmp_path / "a.png") as image:
        text = image.info["parameters"]
    assert parse_infotext(text)["TI hashes"] == f"zorp: {digits}"
    _, again = drawn(engine, "a red zorp", negative_prompt="blue")
    assert np.array_equal(again, learned)
    _, negative = drawn(engine, "a red dog", negative_prompt="zorp")
    assert not np.array_equal(negative, plain)
    save(tmp_path / "embeddings", "zorp", seed=1)  # what was kept of the old file is of no use
    assert not np.array_equal(drawn(engine, "a red zorp", negative_prompt="blue")[1], learned)
    result, _ = drawn(engine, "a red dog")
    assert "embeddings" not in result.drawn_by


def test_what_cannot_be_read_is_refused_with_what_to_do(engine: LocalEngine) -> None:
    for prompts in ({"prompt": "a wide dog"}, {"prompt": "a dog", "negative_prompt": "(wide:1.2)"}):
        assert "its vectors have 5 numbers" in (engine.why_not(asked(**prompts)) or "")
    assert "safetensors.torch.save_file" in (engine.why_not(asked("an old dog")) or "")
    with pytest.raises(RequestError):
        next(engine.generate(asked("an old dog")))
    assert engine.why_not(asked("a widest, olden dog")) is None


def test_a_learned_word_is_one_word_to_those_who_look_inside(engine: LocalEngine) -> None:
    words = words_of(engine.model.text_encoder, "a zorp dog", engine.learned("a zorp dog"))
    assert [(word.text, word.places) for word in words] == [("a", (1,)), ("zorp", (2, 3)), ("dog", (4,))]


def test_a_style_of_names_and_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LATENT_STUDIO_EMBEDDINGS", raising=False)
    assert embeddings_folder(Path("outputs")) == Path("outputs/embeddings")
    monkeypatch.setenv("LATENT_STUDIO_EMBEDDINGS", "/elsewhere")
    assert embeddings_folder(Path("outputs")) == Path("/elsewhere")
    save(tmp_path, "a.b")
    shutil.copy(tmp_path / "a.b.safetensors", tmp_path / "zorp.safetensors")
    assert Embeddings(tmp_path).names() == ["a.b", "zorp"]
    assert Embeddings().names() == []
