"""Digits by their names."""

from __future__ import annotations

DIGITS = tuple(map(str, range(10)))
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAMES = {digit: number for number, digit in enumerate(DIGITS)} | {word: number for number, word in enumerate(WORDS)}
