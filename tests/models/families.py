"""Tokenizers and encoders of each family, tiny and untrained."""

from typing import Any

import torch
import transformers

from models.text_families import FAMILIES
from tests.tiny import tiny_tokenizer

BYTES = "".join(chr(c) for c in range(33, 127))


def byte_pairs(special: list[str], end: str) -> Any:
    letters = [letter + ending for letter in BYTES for ending in dict.fromkeys(("", end))]
    return {token: n for n, token in enumerate([*special, *letters, "Ġ"])}


def family_tokenizer(name: str) -> Any:
    match name:
        case "roberta":
            return transformers.RobertaTokenizer(
                vocab=byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], ""), merges=[]
            )
        case "clip_text_model":
            vocab = byte_pairs(["<|startoftext|>", "<|endoftext|>"], "</w>")
            return transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=12)
        case "t5":
            pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((c, -2.0) for c in "▁" + BYTES)]
            return transformers.T5Tokenizer(vocab=pieces, extra_ids=0)
        case "mpnet":
            words = [
                "<s>",
                "<pad>",
                "</s>",
                "[UNK]",
                "<mask>",
                *"acdegoprt",
                *(f"##{c}" for c in "acdegoprt"),
            ]
            return transformers.MPNetTokenizer(vocab={word: n for n, word in enumerate(words)})
        case "distilbert":
            return transformers.DistilBertTokenizer(vocab=tiny_tokenizer().get_vocab(), model_max_length=16)
        case _:
            return tiny_tokenizer()


def family_model(name: str, tokenizer: Any) -> Any:
    common: dict[str, Any] = {"vocab_size": len(tokenizer)}
    deep = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    sizes: dict[str, dict[str, Any]] = {
        "distilbert": {
            "dim": 16,
            "n_layers": 1,
            "n_heads": 2,
            "hidden_dim": 24,
            "max_position_embeddings": 20,
        },
        "t5": {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 24},
        "clip_text_model": {**deep, "max_position_embeddings": 12, "bos_token_id": 0, "eos_token_id": 1},
    }
    family = FAMILIES[name]
    config = getattr(transformers, family.config)(
        **common, **sizes.get(name, {**deep, "max_position_embeddings": 20})
    )
    torch.manual_seed(0)
    return getattr(transformers, family.model)(config).eval()
