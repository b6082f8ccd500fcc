"""Formats dates as glibc does in the C locale, whatever C library Python was built with."""

import re
from datetime import timezone

DIRECTIVE = re.compile(r"%([-_0^#]*)(\d*)([EO]?)(.|$)", re.DOTALL)

# Directives that other directives stand for.
COMPOSED = {
    "c": "%a %b %e %H:%M:%S %Y",
    "D": "%m/%d/%y",
    "F": "%Y-%m-%d",
    "h": "%b",
    "R": "%H:%M",
    "r": "%I:%M:%S %p",
    "T": "%H:%M:%S",
    "X": "%H:%M:%S",
    "x": "%m/%d/%y",
}
# Numbers: how many digits, and what fills them up.
NUMBERS = {
    **dict.fromkeys("CdgHIMmSUVWy", (2, "0")),
    **dict.fromkeys("ekl", (2, " ")),
    **dict.fromkeys("GY", (4, "0")),
    "j": (3, "0"),
    "s": (1, " "),
    "u": (1, "0"),
    "w": (1, "0"),
}
WORDS = set("AaBbpP")
PADDING = {"-": "", "_": " ", "0": "0"}


def number(date, letter):
    hour = date.hour % 12 or 12
    values = {"C": date.year // 100, "e": date.day, "k": date.hour, "l": hour, "Y": date.year, "G": date.isocalendar()[0]}
    if letter in values:
        return values[letter]
    if letter == "s":
        return int(date.replace(tzinfo=timezone.utc).timestamp())
    return int(date.strftime("%" + letter))


def strftime(date, format):
    """Formats a date without time zone; %s counts from the epoch as if it were in UTC."""

    def one(match):
        flags, width, modifier, letter = match.groups()
        if letter in tuple("fzZ") and not (flags or width or modifier):
            return f"{date.microsecond:06}" if letter == "f" else ""
        if letter in COMPOSED and not (flags or width or modifier):
            return strftime(date, COMPOSED[letter])
        if letter in NUMBERS and not modifier and (flags in ("_", "0", "") or (flags == "-" and not width)):
            digits, fill = NUMBERS[letter]
            fill = PADDING[flags] if flags else fill
            text = str(number(date, letter))
            return text.rjust(max(digits, int(width or 0)), fill) if fill else text
        if letter in WORDS and not (width or modifier) and flags in ("", "^"):
            text = date.strftime("%p").lower() if letter == "P" else date.strftime("%" + letter)
            return text.upper() if flags and letter != "P" else text
        if letter in "%nt" and letter and not (flags or width or modifier):
            return {"%": "%", "n": "\n", "t": "\t"}[letter]
        if flags or width or modifier or not letter.isascii() or not letter.isalpha() or letter in COMPOSED:
            raise ValueError(f"strftime_now: {match[0]!r} is not supported")
        # A letter that means nothing stays as it is.
        return match[0]

    return DIRECTIVE.sub(one, format)
