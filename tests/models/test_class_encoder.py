import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.class_encoder import ClassEncoder
from models.errors import ModelError, RequestError
from models.folder import load_model
from models.folder_check import check_model_folder
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest
from tests.tiny import make_tiny_model

CLASSES = ["cat", "dog", "red fox"]


@pytest.fixture(scope="module")
def class_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "classes", classes=CLASSES)


def test_a_class_is_one_token_of_its_own_and_the_null_class_another() -> None:
    encoder = ClassEncoder(CLASSES, 8)
    states = encoder.encode(["dog", "", " dog ", "cat"])
    assert states.hidden.shape == (4, 1, 8)
    assert states.mask.all()
    torch.testing.assert_close(states.hidden[:, 0], states.pooled)
    assert torch.equal(states.pooled[0], states.pooled[2])
    assert len({tuple(row.tolist()) for row in states.pooled}) == 3


@given(st.lists(st.text(min_size=1).map(str.strip).filter(bool), unique=True, max_size=5))
def test_every_class_is_found_under_its_name(classes: list[str]) -> None:
    encoder = ClassEncoder(classes, 2)
    (numbers,) = encoder.tokenize(["", *classes])
    assert numbers.tolist() == list(range(len(classes) + 1))


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (CLASSES, "'dgo' is none of them; did you mean 'dog'.*cat, dog, red fox"),
        ([f"class {n}" for n in range(30)], "class 19, …"),
        ([], "without words; leave the prompt empty instead of 'dgo'"),
    ],
)
def test_an_unknown_class_is_answered_with_those_that_there_are(classes: list[str], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        ClassEncoder(classes, 2).encode(["dgo"])


def test_gradients_reach_the_classes_of_a_batch_and_no_others() -> None:
    encoder = ClassEncoder(CLASSES, 8)
    encoder(*encoder.tokenize(["dog", ""])).hidden.square().sum().backward()
    assert encoder.embedding.weight.grad is not None
    assert encoder.embedding.weight.grad.any(1).tolist() == [True, False, True, False]


def test_what_was_learned_of_shared_classes_is_taken_over() -> None:
    old, new = ClassEncoder(["dog", "cat"], 4), ClassEncoder(["cat", "cow"], 4)
    cow = new.encode(["cow"]).pooled
    new.take(old)
    assert torch.equal(new.encode(["", "cat"]).pooled, old.encode(["", "cat"]).pooled)
    assert torch.equal(new.encode(["cow"]).pooled, cow)
    with pytest.raises(ModelError, match="4 numbers there and 8 here"):
        ClassEncoder(["cat"], 8).take(old)


def test_a_model_of_classes_is_loaded_and_draws_each_its_own_way(class_model: Path) -> None:
    check_model_folder(class_model)
    engine = LocalEngine(class_model, "cpu")
    encoder = engine.model.text_encoder
    assert isinstance(encoder, ClassEncoder)
    assert encoder.names == ("", *CLASSES)
    drawn = []
    for prompt in ("cat", "red fox", ""):
        request = GenerationRequest.from_options({"prompt": prompt, "seed": 1}, engine.model.defaults)
        *_, result = engine.generate(request)
        drawn.append(result.images[0].tobytes())
    assert len(set(drawn)) == 3
    wrong = GenerationRequest.from_options({"prompt": "a cat"}, engine.model.defaults)
    assert "did you mean 'cat'" in str(engine.why_not(wrong))
    with pytest.raises(RequestError, match="did you mean 'cat'"):
        next(engine.generate(wrong))


def test_the_identity_of_a_model_covers_the_names_of_its_classes(class_model: Path, tmp_path: Path) -> None:
    renamed = make_tiny_model(tmp_path / "renamed", classes=["cat", "dog", "wolf"])
    assert load_model(renamed).model_id != load_model(class_model).model_id


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": "cat"}, "must be a list of names"),
        ({"classes": ["cat", ""]}, "must be a list of names"),
        ({"classes": ["cat", "cat", "dog"]}, "occurs twice"),
        ({"classes": ["cat"]}, "its config asks for"),
        ({"dim": 10**9}, "reads text of 32 numbers a token, the text encoder gives 1000000000"),
        ({"auto_map": {}}, "'auto_map', which asks for code"),
        ({"_class_name": "Evil"}, "'Evil' is not allowed here; use ClassEncoder"),
    ],
)
def test_a_damaged_list_of_classes_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    folder = make_tiny_model(tmp_path / "model", classes=CLASSES)
    file = folder / "class_encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ModelError, match=words):
        load_model(folder)
