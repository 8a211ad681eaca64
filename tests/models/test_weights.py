import itertools
import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from models.errors import ModelError
from models.weights import build_module, find_weights, load_weights, parse_json, read_header
from models.writing import save_weights

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.float16)}
ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def raw(header: Any, data: bytes = b"\0" * 4) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "shorter than eight bytes"),
        (b"PK\x03\x04", "a zip archive, as PyTorch packs pickles"),
        (b"\x80\x04\x95" + b"evil" * 20, "a pickle, which can run code when read; get its .safetensors"),
        (b"GGUF\3\0\0\0" + b"\0" * 40, "is GGUF; only safetensors is read"),
        (struct.pack("<Q", 2**63) + b"{}", "header would be longer"),
        (raw(b"\xff\xfe{}"), "is damaged"),
        (raw(b"[" * 100_000), "is damaged"),
        (raw([]), "holds no JSON object"),
        (raw(b'{"a": %s, "a": %s}' % ((json.dumps(ONE).encode(),) * 2)), "'a' occurs twice"),
        (raw({}, b""), "holds no tensors"),
        (raw({"a": 3}), "not described by dtype"),
        (raw({"a": {**ONE, "more": 1}}), "not described by dtype"),
        (raw({"a": {**ONE, "dtype": "I64", "data_offsets": [0, 8]}}, b"\0" * 8), "only F16, BF16 and F32"),
        (raw({"a": {**ONE, "dtype": ["F32"]}}), "only F16, BF16 and F32"),
        (raw({"a": {**ONE, "shape": [-1]}}), "no lists of counts"),
        (raw({"a": {**ONE, "shape": [True]}}), "no lists of counts"),
        (raw({"a": {**ONE, "shape": 1}}), "no lists of counts"),
        (raw({"a": {**ONE, "data_offsets": [0, 4, 8]}}), "does not fill its offsets"),
        (raw({"a": {**ONE, "data_offsets": [4, 0]}}), "does not fill its offsets"),
        (raw({"a": ONE, "b": {**ONE, "data_offsets": [8, 12]}}, b"\0" * 12), "overlap or leave holes"),
        (raw({"a": ONE, "b": ONE}), "overlap or leave holes"),
        (raw({"a": ONE}, b"\0" * 3), "do not fill the file"),
        (raw({"a": ONE}, b"\0" * 9), "do not fill the file"),
        (raw({"a": {**ONE, "shape": [2**62, 2**62]}}), "does not fill its offsets"),
    ],
)
def test_a_malformed_file_is_refused_with_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=words) as caught:
        read_header(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_of_a_file_leads_to_anything_but_an_answer_or_a_model_error(
    tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(save(TENSORS))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] + data.draw(st.binary(max_size=8))
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    try:
        weights = load_weights(file)
    except ModelError:
        return
    assert all(tensor.isfinite().all() for tensor in weights.values())


COUNTS = st.integers(0, 3) | st.sampled_from([-1, 2**31, 2**63, 2**64, 1.0, True, None, "1"])


@st.composite
def headers(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """Tensors one after the other, some of their numbers exchanged, and bytes that may be too many or few."""
    header: dict[str, Any] = {}
    end = 0
    for name in draw(st.lists(st.text(max_size=3), min_size=1, max_size=4, unique=True)):
        dtype = draw(st.sampled_from(["F16", "BF16", "F32", "F32", "F64", "I64", "f32", None]))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        start, end = end, end + {"F32": 4, "F64": 8, "I64": 8}.get(str(dtype), 2) * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
        if draw(st.integers(0, 3)) == 0:
            numbers = header[name][draw(st.sampled_from(["shape", "data_offsets"]))]
            if numbers:
                numbers[draw(st.integers(0, len(numbers) - 1))] = draw(COUNTS)
    return header, b"\0" * (end + draw(st.sampled_from([0, 0, 0, 1])))


@given(headers())
def test_a_header_that_is_taken_is_taken_by_the_formats_own_reader_too(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[dict[str, Any], bytes]
) -> None:
    file = tmp_path_factory.getbasetemp() / "header.safetensors"
    file.write_bytes(raw(*made))
    try:
        entries = read_header(file)
    except ModelError:
        return
    assert {name: tuple(tensor.shape) for name, tensor in load_file(file).items()} == {
        name: entry.shape for name, entry in entries.items()
    }
    spans = sorted(entry["data_offsets"] for entry in made[0].values())
    assert all(one[1] == other[0] for one, other in itertools.pairwise(spans))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    tensor = torch.zeros(5, dtype=dtype)
    tensor[3] = value
    save_file({"fine": torch.ones(2), "poor": tensor}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="'poor' holds NaN or infinite"):
        load_weights(tmp_path / "model.safetensors")


def test_weights_are_loaded_in_float32_or_as_asked(tmp_path: Path) -> None:
    save_weights(tmp_path / "w", TENSORS, torch.float16)
    assert {t.dtype for t in load_file(tmp_path / "w").values()} == {torch.float16}
    assert {t.dtype for t in load_weights(tmp_path / "w").values()} == {torch.float32}
    assert torch.equal(load_weights(tmp_path / "w")["a.weight"], TENSORS["a.weight"])


def test_loaded_weights_do_not_change_when_the_file_does(tmp_path: Path) -> None:
    file = tmp_path / "w"
    save_file({"a": torch.ones(1000)}, file)
    weights = load_weights(file)
    with file.open("r+b") as handle:
        handle.seek(-4000, os.SEEK_END)
        handle.write(b"\0" * 4000)
    assert weights["a"].sum() == 1000


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 1}}', '{"a": NaN}', "[]", "{", "\x00"]
)
def test_json_that_two_readers_could_read_differently_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match=r"it.json is damaged"):
        parse_json(text.encode(), "it.json")


def test_a_module_is_built_only_from_exactly_its_own_tensors() -> None:
    linear = torch.nn.Linear(3, 2)
    weights = dict(linear.state_dict())
    built = build_module(lambda: torch.nn.Linear(3, 2), weights, Path("w"))
    assert torch.equal(built(torch.ones(3)), linear(torch.ones(3)))
    with pytest.raises(ModelError, match="lacks 1 tensors, first 'bias'"):
        build_module(lambda: torch.nn.Linear(3, 2), {"weight": weights["weight"]}, Path("w"))
    with pytest.raises(ModelError, match="1 tensors more, first 'extra'"):
        build_module(lambda: torch.nn.Linear(3, 2), {**weights, "extra": torch.ones(1)}, Path("w"))
    with pytest.raises(
        ModelError, match=r"'weight' has shape \(2, 3\), its config asks for \(2, 1000000000000\)"
    ):
        build_module(lambda: torch.nn.Linear(10**12, 2), weights, Path("w"))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            ["pytorch_model.bin"],
            "holds only pytorch_model.bin, which can run code when read; get its .safetensors",
        ),
        (["model.safetensors.index.json"], "weights in several files"),
        ([], "holds no weights"),
    ],
)
def test_a_part_without_one_safetensors_file_says_what_it_has(
    tmp_path: Path, files: list[str], words: str
) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=words):
        find_weights(tmp_path)


def test_the_half_precision_variant_is_found_and_full_precision_preferred(tmp_path: Path) -> None:
    (tmp_path / "diffusion_pytorch_model.fp16.safetensors").touch()
    assert find_weights(tmp_path).name == "diffusion_pytorch_model.fp16.safetensors"
    (tmp_path / "diffusion_pytorch_model.safetensors").touch()
    assert find_weights(tmp_path).name == "diffusion_pytorch_model.safetensors"
