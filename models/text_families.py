"""The kinds of text encoder that may be built from a folder; nothing else ever is, whatever a folder says."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.errors import ModelError


@dataclass(frozen=True)
class Family:
    """The transformers classes of one kind of text encoder, by name, and how its files differ from them."""

    config: str
    model: str
    tokenizer: str
    model_settings: dict[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()  # name prefixes of tensors that files carry and the encoder does without
    file_prefix: str = ""  # what earlier transformers put before every tensor name
    tied: tuple[str, str] | None = None  # the second tensor is the first one
    reserved_positions: int = 0  # positions that RoBERTa's numbering skips


DEFAULT_MAX_TOKENS = 128  # what MiniLM was trained on; longer prompts are cut
_NO_POOLER = {"add_pooling_layer": False}  # mean pooling is ours
FAMILIES = {  # by model_type in config.json
    "bert": Family("BertConfig", "BertModel", "BertTokenizer", _NO_POOLER, ("pooler.", "cls."), "bert."),
    "distilbert": Family(
        "DistilBertConfig", "DistilBertModel", "DistilBertTokenizer", {}, ("vocab_",), "distilbert."
    ),
    "mpnet": Family(
        "MPNetConfig", "MPNetModel", "MPNetTokenizer", _NO_POOLER, ("pooler.", "lm_head."), "mpnet.",
        reserved_positions=2,
    ),
    "roberta": Family(
        "RobertaConfig", "RobertaModel", "RobertaTokenizer", _NO_POOLER, ("pooler.", "lm_head."), "roberta.",
        reserved_positions=2,
    ),
    "clip_text_model": Family(
        "CLIPTextConfig", "CLIPTextModel", "CLIPTokenizer", {}, ("text_projection.",), "text_model."
    ),
    "t5": Family(
        "T5Config", "T5EncoderModel", "T5Tokenizer", {}, ("decoder.", "lm_head."),
        tied=("shared.weight", "encoder.embed_tokens.weight"),
    ),
}  # fmt: skip

# CLIP with what pools its states, as the second text encoder of SDXL is; by `architectures` in config.json.
PROJECTED = replace(
    FAMILIES["clip_text_model"], model="CLIPTextModelWithProjection", unused=(), file_prefix=""
)

# Keys that config files carry and that change nothing in the token states.
IGNORED_KEYS = frozenset({
    "_name_or_path", "architectures", "chunk_size_feed_forward", "dense_act_fn", "dropout", "dtype",
    "gradient_checkpointing", "id2label", "is_encoder_decoder", "is_gated_act", "label2id", "model_type",
    "n_positions", "output_hidden_states", "output_past", "problem_type", "return_dict",
    "scale_decoder_outputs", "task_specific_params", "tie_word_embeddings", "torch_dtype",
    "transformers_version", "use_cache",
})  # fmt: skip

VOCABULARIES = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"), ("spiece.model",))


def check_tokenizer(folder: Path) -> None:
    """ModelError for a tokenizer folder without a vocabulary: transformers would make up an empty one."""
    if not any(all((folder / name).is_file() for name in names) for names in VOCABULARIES):
        raise ModelError(
            f"{folder} holds no tokenizer.json or other vocabulary; the model folder is incomplete"
        )


def longest_prompt(family: Family, positions: int | None, tokenizer_limit: float) -> int:
    """How many tokens an encoder reads, begin and end included; `positions` are those of its config."""
    positions = (512 if positions is None else positions) - family.reserved_positions
    # about 1e30 where the tokenizer does not say
    return min(positions, int(tokenizer_limit) if tokenizer_limit < 1_000_000 else DEFAULT_MAX_TOKENS)


def read_tokenizer(folder: Path, family: Family) -> Any:
    """The tokenizer in a folder; ModelError where it is missing or damaged."""
    import transformers  # seconds, and the settings above are asked for without it

    check_tokenizer(folder)
    try:
        tokenizer = getattr(transformers, family.tokenizer).from_pretrained(
            str(folder), local_files_only=True
        )
        tokenizer("a")
    except Exception as error:  # a damaged file raises whatever the library happened to meet
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelError(f"{folder} holds no {family.tokenizer} that can be read ({reason})") from error
    limit = tokenizer.model_max_length
    if not isinstance(limit, int | float) or isinstance(limit, bool) or limit < 3:
        raise ModelError(f"{folder}: model_max_length = {limit!r} is no count of tokens; get the file again")
    return tokenizer
