"""Reads the one-line networks of `chain`: text in, a flat list of layers out, or an error that says where."""

from __future__ import annotations

import re
from typing import NamedTuple

from striate.errors import UsageError, did_you_mean

LONGEST = 2_000  # layers after all repeats; deeper is a slip of the finger
DEEPEST = 32  # nested groups
LARGEST = 65_536  # channels, widths, kernels

# word -> (what its number means, or "" for none; letters of further numbers)
DESCRIPTIONS = {
    "conv": ("channels", "ksp"),
    "maxpool": ("window", "sp"),
    "avgpool": ("window", "sp"),
    "fc": ("width", ""),
    "drop": ("probability", ""),
    **dict.fromkeys(
        ("pool", "gap", "bn", "lrn", "relu", "tanh", "sigmoid", "gelu", "silu", "flatten"),
        ("", ""),
    ),
}
OPTIONS = {"k": "kernel", "s": "stride", "p": "padding"}


class Token(NamedTuple):
    """One layer: `conv32k5s2` is ("conv", 32.0, {"k": 5, "s": 2}, "conv32k5s2", where it stands, from 1)."""

    word: str
    number: float
    options: dict[str, int]
    text: str
    position: int


def parse(line: str) -> list[Token]:
    """The layers of a line in order, groups repeated.

    Raises:
        UsageError: with the position of what is not understood.
    """
    tokens, end = _sequence(line, 0, depth=0)
    if end < len(line):
        raise error_at(line, end + 1, 'this ")" closes nothing')
    return tokens


def error_at(line: str, position: int, message: str) -> UsageError:
    shown = line if len(line) <= 80 else f"{line[:77]}…"
    return UsageError(f'one-line network "{shown}", character {position}: {message}')


def _sequence(line: str, start: int, depth: int) -> tuple[list[Token], int]:
    """Items joined by "-", until the line or the group ends; returns where."""
    tokens: list[Token] = []
    while True:
        items, end = _group(line, start, depth) if line.startswith("(", start) else _layer(line, start)
        tokens += items
        if len(tokens) > LONGEST:
            raise error_at(line, start + 1, f"more than {LONGEST:,} layers")
        if not line.startswith("-", end):
            if end < len(line) and line[end] != ")":
                raise error_at(line, end + 1, f'"-" or ")" expected, not "{line[end]}"')
            return tokens, end
        start = end + 1


def _group(line: str, start: int, depth: int) -> tuple[list[Token], int]:
    """`(a-b)x3`, or `(a-b)` once."""
    if depth == DEEPEST:
        raise error_at(line, start + 1, f"more than {DEEPEST} groups in each other")
    tokens, end = _sequence(line, start + 1, depth + 1)
    if not line.startswith(")", end):
        raise error_at(line, start + 1, 'this "(" is never closed')
    end += 1
    if end < len(line) and line[end] in "x×":
        digits = re.compile(r"[0-9]{1,6}").match(line, end + 1)
        if digits is None or int(digits[0]) < 1:
            raise error_at(line, end + 2, f'how often? a number from 1 belongs after "){line[end]}"')
        if len(tokens) * int(digits[0]) > LONGEST:
            raise error_at(line, end + 2, f"more than {LONGEST:,} layers")
        tokens, end = tokens * int(digits[0]), digits.end()
    return tokens, end


def _layer(line: str, start: int) -> tuple[list[Token], int]:
    end = start
    while end < len(line) and line[end] not in "-()":
        end += 1
    text, position = line[start:end], start + 1
    letters = re.match(r"[a-z]*", text)
    word = letters[0] if letters else ""
    if not text:
        raise error_at(line, position, "a layer is missing here")
    if word not in DESCRIPTIONS:
        raise error_at(line, position, f'"{text}" is not a layer.{did_you_mean(word or text, DESCRIPTIONS)}')
    meaning, allowed = DESCRIPTIONS[word]
    rest = text[len(word) :]
    if not meaning:
        if rest:
            raise error_at(line, position + len(word), f'"{word}" takes no number, so "{rest}" cannot be meant')
        return [Token(word, 0.0, {}, text, position)], end
    if word == "drop":
        return [Token(word, _probability(line, rest, position), {}, text, position)], end

    parts = re.fullmatch(r"([0-9]{1,6})((?:[a-z][0-9]{1,6})*)", rest)
    if parts is None:
        example = {"conv": "conv32k5s2p2", "fc": "fc128"}.get(word, f"{word}3s2")
        raise error_at(
            line, position + len(word), f'"{text}" is not understood: write {word}<{meaning}>, like {example}'
        )
    options: dict[str, int] = {}
    for letter, digits in re.findall(r"([a-z])([0-9]+)", parts[2]):
        if letter not in allowed:
            known = ", ".join(f"{option} {OPTIONS[option]}" for option in allowed) or "none"
            raise error_at(line, position, f'"{letter}" in "{text}" is not an option of {word} ({known})')
        if letter in options:
            raise error_at(line, position, f'"{text}" says its {OPTIONS[letter]} twice')
        if int(digits) > LARGEST or (int(digits) < 1 and letter != "p"):
            raise error_at(line, position, f'the {OPTIONS[letter]} of "{text}" must be from 1 to {LARGEST:,}')
        options[letter] = int(digits)
    if not 1 <= int(parts[1]) <= LARGEST:
        raise error_at(line, position, f'the {meaning} of "{text}" must be from 1 to {LARGEST:,}')
    return [Token(word, float(parts[1]), options, text, position)], end


def _probability(line: str, text: str, position: int) -> float:
    if not re.fullmatch(r"0?\.[0-9]{1,9}|0", text):
        raise error_at(line, position + len("drop"), f'"drop{text}" needs a probability below 1, like drop0.5')
    return float(text)
