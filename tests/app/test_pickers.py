"""What the pickers of LoRAs and embeddings write and tell, also below a prompt with a learned word."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.app.forms import OpenTab


def test_a_lora_of_kohyas_scripts_tells_its_words_family_and_rank(
    open_tab: OpenTab, tiny_model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "loras").mkdir()
    about = {
        "ss_tag_frequency": json.dumps({"10_dog": {"zorp": 40, "<b>": 7}}),
        "ss_network_dim": "16",
        "ss_base_model_version": "sd_v1",
    }
    save_file(
        {"lora_unet_a.lora_down.weight": torch.zeros(2, 2)}, tmp_path / "loras" / "ink.safetensors", about
    )
    picker = open_tab().loras
    assert ("ink", "ink") in picker.refresh(str(tiny_model_folder))[1]["choices"]
    prompt, told = picker.choose("a dog", "ink", 0.5)
    assert prompt == "a dog <lora:ink:0.5>"
    for words in ("zorp, &lt;b&gt;", "Stable Diffusion 1", "rank is 16"):
        assert words in told


def test_an_embedding_is_written_as_a_word_and_told_below_the_prompt(
    open_tab: OpenTab, tmp_path: Path
) -> None:
    tab = open_tab()
    assert tab.embeddings.refresh()[0]["visible"] is False
    (tmp_path / "embeddings").mkdir()
    file = tmp_path / "embeddings" / "zorp.safetensors"
    save_file({"emb_params": torch.zeros(3, 32)}, file)
    row, names = tab.embeddings.refresh()
    assert row["visible"] is True
    assert ("zorp", "zorp") in names["choices"]
    prompt, told = tab.embeddings.choose("a red dog, ", "zorp")
    assert prompt == "a red dog, zorp"
    assert "3" in told
    assert tab.embeddings.choose(None, "zorp")[0] == "zorp"
    line = tab.form.words.count_tokens("", "a red zorp", [], -1, 20)
    assert "5 of 14 tokens" in line
    assert "Learned words: zorp" in line
    file.write_bytes(b"damaged")
    assert "safetensors" in tab.embeddings.choose("a", "zorp")[1]
    file.unlink()
    assert "no embedding" in tab.embeddings.choose("a", "zorp")[1]
