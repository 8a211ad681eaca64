"""The words of a prompt that a text encoder cannot know, by how its tokenizer takes them apart."""

import re

from pipelines.prompt.attention import BREAK, parse_attention
from pipelines.prompt.chunks import Tokens
from pipelines.prompt.compose import split_composition
from pipelines.prompt.lora import take_loras
from pipelines.prompt.schedule import schedule

WORD = re.compile(r"[^\W\d_]+")
MOST = 0.5  # of the tokens of a prompt's words


def unknown_words(prompt: str, tokens: Tokens, steps: int) -> list[str]:
    """The unknown words of a prompt that consists mostly of them; none where most are known.

    A word is unknown where a token stands for anything unknown (WordPiece), or where no token covers two
    letters of it: its bytes or single letters are left (CLIP; Chinese in an English vocabulary). Single
    letters of ASCII are known.
    """
    text, _ = take_loras(prompt)
    words: dict[str, tuple[bool, int]] = {}
    for part, _ in split_composition(text):
        for said in dict.fromkeys(said for _, said in schedule(part, steps)):
            for parsed in parse_attention(said):
                if parsed != BREAK:
                    words |= _words(parsed[0], tokens)
    unknown = [word for word, (known, _) in words.items() if not known]
    many = sum(words[word][1] for word in unknown) > MOST * sum(count for _, count in words.values())
    return unknown if many else []


def _words(said: str, tokens: Tokens) -> dict[str, tuple[bool, int]]:
    """Each word, whether it is known, and how many tokens it has."""
    pieces = tokens.pieces(said)
    found = {}
    for match in WORD.finditer(said):
        own = [piece for piece in pieces if piece[0] < match.end() and piece[1] > match.start()]
        whole = any(min(end, match.end()) - max(begin, match.start()) > 1 for begin, end, _ in own)
        single = len(match[0]) == 1 and match[0].isascii()
        known = (whole or single) and not any(is_unknown for *_, is_unknown in own)
        found[match[0]] = (known, len(own))
    return found
