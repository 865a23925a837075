"""The identifiers that an answer names, in the order that it means."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from langchain_rerankkit.llm.values import scalars, texts

__all__ = ["Identifiers"]

_LABEL = r"(?:passages?|documents?|docs?|texts?|candidates?|items?|identifiers?|ids?|numbers?|no|nr)"
_TOKEN = re.compile(rf"(?P<label>\b{_LABEL}[\s.:#_-]*|#)?(?P<token>[^\W_]{{1,12}})(?![^\W_])", re.IGNORECASE)
_GROUP = re.compile(r"\[([^\[\]]{1,4000})\]")
_MARKER = r"(?:\(?\d{1,4}[.):]\s*|[-*•]\s+)"
_BETWEEN = re.compile(
    rf"""[\s>,;=|/→≻»*_`"'.(){{}}$-]*(?:\b(?:and|then)\b\s*)?{_MARKER}?[\s*_`"'(]*(?:{_LABEL}\b[\s*_`"'(]*)?""",
    re.IGNORECASE,
)
# Between bare identifiers more is needed than a point or a dash, which dates, versions and ranges have too.
_BARELY = re.compile(
    r"""[\s*_`"'()]*(?:[,;|>→≻»][\s,;=|>→≻»*_`"'()./-]*|[=-]+>\s*|[ \t]/[ \t]|=)?[\s*_`"'(]*(?:\b(?:and|then)\b\s*)?[\s*_`"'(]*""",
    re.IGNORECASE,
)
_ARROW = re.compile(r"[>→≻»]")
_AGAINST = re.compile(r"[^\w>]*[<≺][^\w>]*")
_WORD = re.compile(r"[^\W\d_]{2}")
_FINAL = re.compile(r"(?:final|answer|revised|corrected|boxed)\b[^\[\]]{0,40}$", re.IGNORECASE)
_PLACE = re.compile(
    r"[\s|>*_#-]*(?:(?:rank|place|position|top)\s*)?#?(?P<place>\d{1,4})(?:st|nd|rd|th)?[\s*_]*"
    r"(?P<mark>[.):](?!\d)|[|=→]|-+>|[-–—](?=\s))[\s*_]*",  # noqa: RUF001 - dashes
    re.IGNORECASE,
)
_PLACES = re.compile(r"[\s|>*_-]*(?:rank|place|position|top|#)", re.IGNORECASE)  # head of a column of places
_BULLET = "-*•|>_#`\"'( \t"
_NUMBER = re.compile(r"\W*(\d{1,6}(?:\.\d{1,6})?)(?:\s*/\s*\d{1,4}|\s*%)?\W*")
_REMARK = re.compile(r"(?<=\])[*_`\"']{0,3}[ \t]*\([^()\n]{0,200}\)")
_BARE_REMARK = re.compile(r"(?<![^\W_])(?P<token>[^\W_]{1,12})[*_`\"']{0,3}[ \t]*\([^()\n]{0,200}\)")
_LONGEST_NUMBER = 12  # digits
_LONGEST_GAP = 40  # characters between two identifiers of a chain
_MOST_VALUES = 50  # places of an answer where JSON may begin that are tried


class Identifiers:
    """The identifiers of one prompt, and the ways in which an answer may name them.

    Args:
        identifiers: Of the passages, in the order they were shown; all numbers, all letters, or all codes of both.

    Attributes:
        positions: Of the passages, by identifier, as `read` gives it.
    """

    def __init__(self, identifiers: Sequence[str]) -> None:
        self.positions = {_fold(identifier): position for position, identifier in enumerate(identifiers)}
        folded = list(self.positions)
        # What looks like one of them, so that one that no passage has is told from prose.
        if all(identifier.isdigit() for identifier in folded):
            self._shape = re.compile(r"\d{1,9}")
        elif all(identifier.isalpha() for identifier in folded):
            self._shape = re.compile(r"[a-z]{1,2}")
        else:
            lengths = [len(identifier) for identifier in folded]
            self._shape = re.compile(rf"(?=[a-z]*\d)(?=\d*[a-z])[a-z0-9]{{{min(lengths)},{max(lengths)}}}")
        self._codes = not all(identifier.isdigit() or identifier.isalpha() for identifier in folded)

    def read(self, text: str) -> list[str]:
        """The identifiers of an answer in its order; none where it is no order."""
        try:
            value = json.loads(text.strip())
        except (ValueError, RecursionError):
            pass
        else:
            if isinstance(value, (list, dict)):
                # A text in it may be an answer; its numbers and keys are none.
                return self._of_value(value) or self._in_brackets("\n".join(texts(value))) or []
        found = self._in_values(text) or self._in_brackets(text)
        return self._bare(text) if found is None else found

    def alone(self, text: str) -> list[str]:
        """The one identifier that is all of the answer, perhaps with a word before it."""
        bare = re.fullmatch(
            rf"\W*(?:(?:the\s+)?(?:most\s+relevant|best|answer)\W+(?:{_LABEL}\W+)?(?:is\W+)?)?(.*?)\W*",
            text.strip()[:200],
            re.IGNORECASE | re.DOTALL,
        )
        match = _TOKEN.fullmatch(bare.group(1)) if bare else None
        token = self._token(match.group("token")) if match else None
        return [token] if token else []

    def _of_value(self, value: Any) -> list[str]:
        return [token for item in scalars(value) for token in self._tokens(item)]

    def _in_values(self, text: str) -> list[str]:
        """Those of a JSON value among other text; of values that name equally many, of the last."""
        best: list[str] = []
        stop = tried = 0
        for begin in re.finditer(r"\{|\[\s*[{\"\[]", text):
            if begin.start() < stop or tried == _MOST_VALUES:
                continue
            tried += 1
            try:
                value, stop = json.JSONDecoder().raw_decode(text, begin.start())
            except (ValueError, RecursionError):
                continue
            found = self._of_value(value)
            if len(found) > 1 and self._known(found) >= max(1, self._known(best)):
                best = found
        return best

    def _in_brackets(self, text: str) -> list[str] | None:
        """Those in square brackets; None where there are none, or of nothing that was shown."""
        listed = self._list(text, self._bracketed_item)
        text = _REMARK.sub("", text)
        tokens: list[_Found] = []
        for group in _GROUP.finditer(text):
            tokens.extend(_Found(token, group.start(), group.end()) for token in self._tokens(group.group(1)))
        if not any(found.token in self.positions for found in tokens):
            return None
        chains = list(_chains(text, tokens, _BETWEEN))
        found = self._chosen(text, chains, listed)
        if found is not None:
            return found
        if any(_AGAINST.fullmatch(text[one.stop : two.start]) for one, two in pairwise(tokens)):
            return []  # the worst first, or the best?
        return [found.token for found in tokens]

    def _bare(self, text: str) -> list[str]:
        """Those without brackets, where they can be nothing but an order; a number in prose is none."""
        if alone := self.alone(text):
            return alone
        listed = self._list(text, self._bare_item)
        text = _BARE_REMARK.sub(lambda match: match.group("token" if self._token(match.group("token")) else 0), text)
        whole = all(_BARELY.fullmatch(piece) for piece in re.split(r"[^\W_]+", text.strip(" \t\n.")))
        tokens = [
            _Found(token, match.start(), match.end())
            for match in _TOKEN.finditer(text)
            if (token := self._token(_sign(text, match.start()) + match.group("token")))
            and (whole or self._is_bare(match.group("token")))
        ]
        chains = list(_chains(text, tokens, _BARELY))
        found = self._chosen(text, chains, listed, bare=True)
        if found is not None:
            return found
        codes = [found.token for found in tokens if found.token in self.positions] if self._codes else []
        return codes if len(set(codes)) * 2 > self._count else []

    def _chosen(
        self, text: str, chains: Sequence[list[_Found]], listed: list[str] | None, *, bare: bool = False
    ) -> list[str] | None:
        """Of chains and a list, what is the order: none where the list is no order for sure, None if nothing is."""
        kinds = [(self._kind(text, chain, bare=bare), _names(chain)) for chain in chains]
        final = [names for kind, names in kinds if kind == "final"]
        order = self._last(final) or self._joined([names for kind, names in kinds if kind == "arrows"])
        if order and (final or self._known(order) > (2 if listed == [] else self._known(listed or ()) - 1)):
            return order
        loose = [names for kind, names in kinds if kind == "loose"]
        tiers = [names for kind, names in kinds if kind in {"loose", "single"}]
        every = self._joined(tiers)
        chosen = every if not bare or self._known(every) == self._count else self._joined(loose)
        if listed is not None and (not listed or self._known(listed) >= self._known(chosen)):
            return listed
        return order or chosen or None

    def _kind(self, text: str, chain: Sequence[_Found], *, bare: bool) -> str:
        """What a chain is: one with arrows, the "final" one of them, a "loose" one, a "single" identifier, or nothing."""
        names = _names(chain)
        known = self._known(names)
        before, after = _around(text, chain)
        led = before.rstrip(" *_\"'`({[").endswith(":")
        prose = _WORD.search(after) is not None
        if not known:
            return ""
        if len(set(names)) == 1 or known <= bare:
            return "single" if led and not prose else ""
        if _has_arrow(text, chain):
            if bare and prose and known < self._count:
                return ""
            return "final" if _FINAL.search(text[max(0, chain[0].start - 80) : chain[0].start]) else "arrows"
        pure = not prose and (led or not _WORD.search(before))
        return "loose" if pure or known == self._count > bare + 1 else ""

    def _last(self, chains: Sequence[list[str]]) -> list[str]:
        """Of those that name the most passages, the last."""
        best: list[str] = []
        for names in chains:
            if self._known(names) >= self._known(best):
                best = names
        return best

    def _joined(self, chains: Sequence[list[str]]) -> list[str]:
        """All of them where they share no identifier, as tiers do; else the last of the longest."""
        every = [name for names in chains for name in names]
        if len(set(every)) == sum(len(set(names)) for names in chains):
            return every
        return self._last(chains)

    def _list(self, text: str, item: Callable[[str], _Item | None]) -> list[str] | None:
        """Identifiers at the beginning of lines; None where there is no such list, and none where it is no order."""
        lines = [line for line in text.splitlines() if line.strip()]
        best: list[str] = []
        places = [(line, match) for line in lines if (match := _PLACE.match(line))]
        numbered = list(_numbered(places))
        headed = any(_PLACES.match(line) for line in lines)
        for rows in numbered:
            items = [item(line[match.end() :]) for line, match in rows]
            named = [one for one in items if one is not None]
            if None in items[:-1] or not named:
                continue
            marks = {match.group("mark") for _, match in rows}
            if any(one.number for one in named) and not (marks <= {".", ")"} or (headed and marks == {"|"})):
                return []  # places and identifiers, or identifiers and grades?
            names = [one.token for one in named]
            if self._known(names) >= max(1, self._known(best)):
                best = names
        if best:
            return best
        of_places = {line for rows in numbered for line, _ in rows}
        if any(self._token(match.group("place")) for line, match in places if line not in of_places):
            of_places = set()  # "3. …, 1. …, 2. …" are identifiers
        named = [one for line in lines if line not in of_places and (one := item(line)) and one.ends]
        names = [one.token for one in named]
        if len(set(names)) < 2:  # noqa: PLR2004
            return None
        grades = [float(match.group(1)) for one in named if (match := _NUMBER.fullmatch(one.rest))]
        if len(grades) == len(named) and grades not in (
            sorted(grades, reverse=True),
            [float(place) for place in range(1, len(grades) + 1)],
        ):
            return []
        # One that names few of the passages, and more of each, is more likely prose.
        only = all(one.bracketed or not _WORD.search(one.rest) for one in named)
        return names if self._known(names) > (1 if only else self._count / 2) else None

    def _bracketed_item(self, line: str) -> _Item | None:
        match = re.match(rf"(?:{_LABEL}\b[\s.:#_*-]*)?\[([^\[\]]{{1,40}})\]", line.lstrip(_BULLET), re.IGNORECASE)
        tokens = self._tokens(match.group(1)) if match else []
        return (
            _Item(tokens[0], line.lstrip(_BULLET)[match.end() :], bracketed=True)
            if match and tokens[1:] == [] != tokens
            else None
        )

    def _bare_item(self, line: str) -> _Item | None:
        line = line.lstrip(_BULLET)
        match = _TOKEN.match(line)
        token = self._token(match.group("token")) if match and self._is_bare(match.group("token")) else None
        if match is None or token is None:
            return None
        rest = line[match.end() :]
        labelled = bool(match.group("label"))
        ends = self._codes or re.match(r"[\s*_`\"')]*(?:$|[:.,;(|=>–—-])", rest) is not None  # noqa: RUF001 - dashes
        if not (ends or labelled):
            return None
        return _Item(token, rest, ends=ends, number=token.isdigit() and not labelled)

    @property
    def _count(self) -> int:
        return len(self.positions)

    def _known(self, tokens: Iterable[str]) -> int:
        return len(self.positions.keys() & set(tokens))

    def _is_bare(self, piece: str) -> bool:
        """Whether it may be an identifier without brackets: a small letter is a word."""
        return not piece.isalpha() or piece.isupper()

    def _tokens(self, text: str) -> list[str]:
        """Identifiers in a text that holds nothing else; none where it does."""
        tokens = []
        for piece in re.split(
            r"[\s,;>|\"'`{}:→≻]+", re.sub(rf"\b{_LABEL}\b[\s.:#_-]*", " ", text, flags=re.IGNORECASE)
        ):
            if not piece:
                continue
            token = self._token(re.sub(rf"^{_LABEL}[.:#_-]*(?=\d)", "", piece.strip("[]()#*."), flags=re.IGNORECASE))
            if token is None:
                return []
            tokens.append(token)
        return tokens

    def _token(self, piece: str) -> str | None:
        folded = _fold(piece)
        if re.fullmatch(r"-\d{1,9}", folded) and self._shape.fullmatch(folded[1:]):
            return folded  # no passage has it
        return folded if self._shape.fullmatch(folded) or folded in self.positions else None


@dataclass(frozen=True)
class _Found:
    """An identifier in a text: which, its first character (or that of its brackets), and the one after its last."""

    token: str
    start: int
    stop: int


@dataclass(frozen=True)
class _Item:
    """An identifier at the beginning of a line, and what follows it."""

    token: str
    rest: str
    ends: bool = True
    """Whether something other than a word follows."""
    number: bool = False
    """Whether it is a bare number, which may be something else."""
    bracketed: bool = False


def _chains(text: str, tokens: Sequence[_Found], between: re.Pattern[str]) -> Iterator[list[_Found]]:
    """Runs of identifiers with nothing but separators between them."""
    chain: list[_Found] = []
    for found in tokens:
        if chain and chain[-1].start != found.start:  # those of one pair of brackets belong together
            gap = text[chain[-1].stop : found.start]
            if len(gap) > _LONGEST_GAP or not between.fullmatch(gap) or _is_break(gap):
                yield chain
                chain = []
        chain.append(found)
    if chain:
        yield chain


def _sign(text: str, start: int) -> str:
    """The minus of a number that no passage has; the dash of a list is none."""
    return "-" if re.search(r"(?:\A|[ >,;(])-\Z", text[max(0, start - 2) : start]) and text[start].isdigit() else ""


def _is_break(gap: str) -> bool:
    """Whether identifiers with this between them are of different lines, each by itself."""
    return "\n" in gap and not re.search(r"[,;>→≻»]", gap)


def _has_arrow(text: str, chain: Sequence[_Found]) -> bool:
    return any(_ARROW.search(text, one.stop, two.start) for one, two in pairwise(chain) if one.start != two.start)


def _around(text: str, chain: Sequence[_Found]) -> tuple[str, str]:
    """What stands before a chain in its first line, and after it in its last; of long lines what is near."""
    start, stop = chain[0].start, chain[-1].stop
    before, after = text[max(0, start - 200) : start], text[stop : stop + 200]
    return before.rpartition("\n")[2], after.partition("\n")[0]


def _names(chain: Sequence[_Found]) -> list[str]:
    return [found.token for found in chain]


def _numbered(
    places: Sequence[tuple[str, re.Match[str]]],
) -> Iterator[list[tuple[str, re.Match[str]]]]:
    """Runs of lines that are numbered from 1 on, without a gap."""
    rows: list[tuple[str, re.Match[str]]] = []
    for line, match in places:
        place = int(match.group("place"))
        if place != len(rows) + 1:
            if len(rows) > 1:
                yield rows
            rows = []
        if place == len(rows) + 1:
            rows.append((line, match))
    if len(rows) > 1:
        yield rows


def _fold(identifier: str) -> str:
    """Case, script of digits and leading zeros make no difference."""
    text = "".join(
        str(unicodedata.decimal(character)) if character.isdecimal() else character
        for character in unicodedata.normalize("NFKC", identifier).casefold()
    )
    return str(int(text)) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER else text
