"""Prompts as tokens: chunks that fit the text encoder, and the count that says what does not fit.

CLIP reads a long prompt in chunks of its own length, as AUTOMATIC1111 has it; other encoders read one chunk
and cut the rest. BREAK begins a chunk with both. Nothing here needs torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from models.errors import ModelError
from models.parts import has_part, part_config, tokenizer_folder
from models.text_families import FAMILIES, longest_prompt, read_tokenizer
from pipelines.prompt.attention import BREAK, parse_attention
from pipelines.prompt.compose import split_composition
from pipelines.prompt.embeddings import split_names
from pipelines.prompt.lora import take_loras
from pipelines.prompt.schedule import schedule

NO_WORDS: Mapping[str, int] = MappingProxyType({})
COMMA_REACH_TOKENS = 20  # a chunk rather ends behind a comma, if one is this near


class Token(NamedTuple):
    """One token: its number and its weight; or, of a learned word, its name and which of its vectors."""

    number: int
    weight: float
    learned: tuple[str, int] | None = None


Chunk = list[Token]


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt in chunks of tokens, at least one; the words that are cut, and how many tokens these have."""

    chunks: list[Chunk]
    cut: str = ""
    cut_tokens: int = 0


class Tokens:
    """A tokenizer as the prompt language uses it; `size` is the tokens of a chunk between its begin and end.

    `continues` where a longer prompt goes on in the next chunk: CLIP.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, continues: bool) -> None:
        self._tokenizer = tokenizer
        *self.begin, self.end = self._tokenize("", add_special_tokens=True)["input_ids"]
        self.size = max_tokens - len(self.begin) - 1
        self.continues = continues
        self._comma = tokenizer.get_vocab().get(",</w>") if continues else None

    @classmethod
    def from_folder(cls, model: Path) -> "Tokens | None":
        """Those of a model, in a second or two and without torch; None for one that draws classes.

        Raises ModelError where the tokenizer, or what the text encoder is, cannot be read.
        """
        if not has_part(model, "text_encoder"):
            return None
        config = part_config(model, "text_encoder")
        family = FAMILIES.get(str(config.get("model_type")))
        if family is None:
            raise ModelError(f"{model}: the text encoder {config.get('model_type')!r} is not known")
        tokenizer = read_tokenizer(tokenizer_folder(model), family)
        positions = config.get("max_position_embeddings")
        return cls(
            tokenizer,
            longest_prompt(family, positions, tokenizer.model_max_length),
            config["model_type"] == "clip_text_model",
        )

    def read(self, parts: Sequence[tuple[str, float]], learned: Mapping[str, int] = NO_WORDS) -> Reading:
        """The tokens of weighted parts; `learned` words have so many vectors each, in the place of tokens."""
        chunks: list[Chunk] = [[]]
        cut: list[str] = []
        cut_tokens = comma = 0  # `comma` is how far this chunk goes up to its last comma
        for words, weight in parts:
            if (words, weight) == BREAK:
                chunks.append([])
                comma = 0
                continue
            for piece, name in split_names(words, learned):
                groups, begins = self._groups(piece, weight, name, learned)
                if self.continues:
                    for group in groups:
                        comma = self._continue(chunks, group, comma)
                    continue
                room = self.size - len(chunks[-1])
                fitting = next((n for n in range(len(groups)) if sum(map(len, groups[: n + 1])) > room), None)
                chunks[-1] += [token for group in groups[:fitting] for token in group]
                if fitting is not None:
                    cut.append(piece[begins[fitting] :])
                    cut_tokens += sum(map(len, groups[fitting:]))
        if len(chunks) > 1 and not chunks[-1]:
            chunks.pop()  # nothing follows the last BREAK
        return Reading(chunks, "".join(cut).strip(), cut_tokens)

    def _groups(
        self, piece: str, weight: float, name: str | None, learned: Mapping[str, int]
    ) -> tuple[list[list[Token]], list[int]]:
        """What goes into one chunk together, and where each begins: a token alone, a learned word whole."""
        if name is not None:
            return [[Token(0, weight, (name, number)) for number in range(learned[name])]], [0]
        encoded = self._tokenize(piece, add_special_tokens=False, return_offsets_mapping=True)
        begins = [begin for begin, _ in encoded["offset_mapping"]]
        return [[Token(number, weight)] for number in encoded["input_ids"]], begins

    def pieces(self, words: str) -> list[tuple[int, int, bool]]:
        """Begin and end of each token in the words, and whether it stands for something unknown."""
        encoded = self._tokenize(words, add_special_tokens=False, return_offsets_mapping=True)
        # CLIP's unknown token is its end token, which no words become.
        unknown = self._tokenizer.unk_token_id
        places = zip(encoded["offset_mapping"], encoded["input_ids"], strict=True)
        return [(begin, end, number == unknown) for (begin, end), number in places]

    def _continue(self, chunks: list[Chunk], group: Sequence[Token], comma: int) -> int:
        """Add what stays together to the last chunk or a new one; how far that goes up to its last comma."""
        is_comma = group[0].learned is None and group[0].number == self._comma
        if len(chunks[-1]) == self.size:
            # What follows a full chunk takes the words since the comma with it, unless it is one itself.
            near = comma > 0 and self.size - comma < COMMA_REACH_TOKENS and not is_comma
            whole = comma if near else self.size
            chunks[-1:] = [chunks[-1][:whole], chunks[-1][whole:]]
            comma = 0
        if len(chunks[-1]) + len(group) > self.size:
            chunks.append([])
            comma = 0
        chunks[-1] += group
        return len(chunks[-1]) if is_comma else comma

    def _tokenize(self, text: str, **settings: bool) -> Any:
        return self._tokenizer(text, truncation=False, verbose=False, **settings)


@dataclass(frozen=True, slots=True)
class TokenCount:
    """How many tokens a prompt has, how many are read, and the words that are not."""

    count: int
    limit: int
    cut: str


def count_tokens(
    prompt: str, tokens: Tokens, steps: int, composed: bool = True, learned: Mapping[str, int] = NO_WORDS
) -> TokenCount:
    """The count of what is longest of a prompt: of its parts joined by AND, in any step.

    `composed` is False for a negative prompt, in which AND is a word. A chunk before a BREAK counts as full.
    """
    text, _ = take_loras(prompt)
    counts = []
    for part, _ in split_composition(text) if composed else [(text, 1.0)]:
        for words in dict.fromkeys(words for _, words in schedule(part, steps)):
            read = tokens.read(parse_attention(words), learned)
            full, last = tokens.size * (len(read.chunks) - 1), len(read.chunks[-1])
            counts.append(TokenCount(full + last + read.cut_tokens, full + tokens.size, read.cut))
    return max(counts, key=lambda one: (one.cut != "", one.count))
