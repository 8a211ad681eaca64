import pytest

from pipelines.prompt.lora import LoraTag, take_loras


@pytest.mark.parametrize(
    ("prompt", "words", "tags"),
    [
        ("a cat <lora:ink:0.8>", "a cat ", [LoraTag("ink", 0.8)]),
        ("<lora:ink>a cat", "a cat", [LoraTag("ink", 1.0)]),
        ("a<lora:my ink-v2.1:-1><lora:b:.5>", "a", [LoraTag("my ink-v2.1", -1.0), LoraTag("b", 0.5)]),
        ("a <lora:foo:1..2>", "a <lora:foo:1..2>", []),
        ("a <lora:foo:>", "a <lora:foo:>", []),
        ("a <lora:> <lora b>", "a <lora:> <lora b>", []),
        ("a <lora:ink:0>", "a ", [LoraTag("ink", 0.0)]),
        ("a <lora:ink:0.8:-.5>", "a ", [LoraTag("ink", 0.8, -0.5)]),
        ("a <lora:ink:1:0>", "a ", [LoraTag("ink", 1.0, 0.0)]),
        ("a <lora:ink:1:2:3>", "a <lora:ink:1:2:3>", []),
    ],
)
def test_tags_leave_the_prompt_and_malformed_ones_stay(prompt: str, words: str, tags: list[LoraTag]) -> None:
    assert take_loras(prompt) == (words, tuple(tags))
