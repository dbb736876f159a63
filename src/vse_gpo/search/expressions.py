"""Conditions on the columns of an index, as a user types them in SQL → the same, checked, as the table takes them.

Only comparisons, arithmetic, AND, OR, NOT, IN, LIKE, ILIKE, BETWEEN and IS NULL on known columns: no functions, no
statements and no subqueries. A date is compared as a whole: ``date <= 2023`` is true to the end of the year.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from vse_gpo.errors import VSEError, did_you_mean
from vse_gpo.search.periods import EXPECTED, Period, read_period

TEXT, NUMBER, DATE, CONDITION = "a text", "a number", "a date", "a condition"
COLUMNS = {
    "file": TEXT,
    "bytes": NUMBER,
    "modified": NUMBER,
    "width": NUMBER,
    "height": NUMBER,
    "date": DATE,
    "camera": TEXT,
    "latitude": NUMBER,
    "longitude": NUMBER,
}
LONGEST, DEEPEST = 1000, 8  # characters of a condition; parentheses and NOTs in one another
TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<period>\d{4}-\d\d(?:-\d\d)?(?![\w.]))|(?P<number>\d{1,18}(?:\.\d{1,18})?(?!\w))
    |(?P<name>[A-Za-z_]\w*)|(?P<sign><=|>=|<>|!=|[=<>()+\-*/,]))""",
    re.VERBOSE,
)
MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}  # a < b is b > a
WORDS = {"and", "or", "not", "in", "like", "ilike", "between", "is", "null"}


class Term(NamedTuple):
    """A part of a condition."""

    sql: str
    kind: str
    period: Period | None = None  # that a literal names


def checked_condition(text: str) -> str:
    """The condition as the table takes it.

    Args:
        text: as typed.

    Raises:
        VSEError: if it is no condition on the columns.
    """
    return _Reader(text).condition()


def moment(time: object) -> str:
    """A literal of SQL.

    Args:
        time: a datetime.
    """
    return f"timestamp '{time}'"


class _Reader:
    """Reads a condition from left to right."""

    def __init__(self, text: str) -> None:
        self.depth = 0
        if len(text) > LONGEST:
            raise VSEError(f"where= has {len(text):,} characters, expected at most {LONGEST:,}")
        self.tokens: list[tuple[str, str]] = []  # kind and text; the last one is empty
        place, end = 0, len(text.rstrip())
        while place < end:
            found = TOKEN.match(text, place)
            if found is None:
                _refuse(f"{text[place:].strip()[:20]!r} cannot be read; texts stand in single quotes")
            self.tokens.append((str(found.lastgroup), str(found[str(found.lastgroup)])))
            place = found.end()
        self.tokens.append(("end", ""))
        self.at = 0

    def condition(self) -> str:
        found = self._either()
        if self.tokens[self.at][0] != "end":
            _refuse(f"{self._next()} is not expected there")
        return _a(found, CONDITION)

    def _next(self) -> str:
        return repr(self.tokens[self.at][1]) if self.tokens[self.at][1] else "the end"

    def _take(self, *words: str) -> str | None:
        kind, text = self.tokens[self.at]
        if kind in ("name", "sign") and text.lower() in words:
            self.at += 1
            return text.lower()
        return None

    def _need(self, word: str) -> None:
        if self._take(word) is None:
            _refuse(f"expected {word.upper()} before {self._next()}")

    def _either(self) -> Term:
        return self._chain("or", "and")

    def _chain(self, word: str, *inner: str) -> Term:
        """Parts that are joined by a word, without parentheses that lie in one another."""
        parts = [self._chain(*inner) if inner else self._negated()]
        while self._take(word):
            parts.append(self._chain(*inner) if inner else self._negated())
        if len(parts) == 1:
            return parts[0]
        return Term(f"({f' {word.upper()} '.join(_a(part, CONDITION) for part in parts)})", CONDITION)

    def _negated(self) -> Term:
        if not self._take("not"):
            return self._comparison()
        with_not = self._deeper(self._negated)
        return Term(f"(NOT {_a(with_not, CONDITION)})", CONDITION)

    def _deeper(self, read: Callable[[], Term]) -> Term:
        self.depth += 1
        if self.depth > DEEPEST:
            _refuse(f"more than {DEEPEST} parentheses in one another")
        found = read()
        self.depth -= 1
        return found

    def _comparison(self) -> Term:
        left = self._sum()
        if sign := self._take(*MIRRORED, "!="):
            return _compared(left, "<>" if sign == "!=" else sign, self._sum())
        if self._take("is"):
            word = "IS NOT NULL" if self._take("not") else "IS NULL"
            self._need("null")
            return Term(f"({left.sql} {word})", CONDITION)
        negative = self._take("not") is not None
        if kind := self._take("like", "ilike"):
            pattern = _a(self._sum(), TEXT)
            found = Term(f"({_a(left, TEXT)} {kind.upper()} {pattern})", CONDITION)
        elif self._take("between"):
            low = self._sum()
            self._need("and")
            bounds = (_compared(left, ">=", low), _compared(left, "<=", self._sum()))
            found = Term(f"({' AND '.join(bound.sql for bound in bounds)})", CONDITION)
        elif self._take("in"):
            found = Term(f"({' OR '.join(_compared(left, '=', one).sql for one in self._list())})", CONDITION)
        elif negative:
            _refuse(f"expected IN, LIKE, ILIKE or BETWEEN after NOT, found {self._next()}")
        else:
            return left
        return Term(f"(NOT {found.sql})", CONDITION) if negative else found

    def _list(self) -> Sequence[Term]:
        self._need("(")
        found = [self._sum()]
        while self._take(","):
            found.append(self._sum())
        self._need(")")
        return found

    def _sum(self) -> Term:
        left = self._product()
        while sign := self._take("+", "-"):
            left = Term(f"({_a(left, NUMBER)} {sign} {_a(self._product(), NUMBER)})", NUMBER)
        return left

    def _product(self) -> Term:
        left = self._factor()
        while sign := self._take("*", "/"):  # two whole numbers too are divided as numbers
            left = Term(f"(CAST({_a(left, NUMBER)} AS DOUBLE) {sign} {_a(self._factor(), NUMBER)})", NUMBER)
        return left

    def _factor(self) -> Term:
        if self._take("-"):
            return Term(f"(- {_a(self._deeper(self._factor), NUMBER)})", NUMBER)
        if self._take("("):
            found = self._deeper(self._either)
            self._need(")")
            return found
        kind, text = self.tokens[self.at]
        if kind == "text":
            return self._read(Term(text, TEXT, read_period(text[1:-1])))
        if kind == "number":
            return self._read(Term(text, NUMBER, read_period(text)))
        if kind == "period":
            if (period := read_period(text)) is None:
                _refuse(f"{text} is no date, {EXPECTED}")
            return self._read(Term(text, DATE, period))
        if kind == "name" and text.lower() in COLUMNS:
            return self._read(Term(text.lower(), COLUMNS[text.lower()]))
        if kind == "name" and text.lower() not in WORDS:
            _refuse(f"no column {text}{did_you_mean(text, COLUMNS)}, expected one of {', '.join(COLUMNS)}")
        return _refuse(f"expected a column or a value before {self._next()}")

    def _read(self, term: Term) -> Term:
        self.at += 1
        return term


def _compared(left: Term, sign: str, right: Term) -> Term:
    if left.period and _is_date_column(right):
        return _compared(right, MIRRORED[sign], left)
    if _is_date_column(left) and right.period:
        return Term(_against(left.sql, sign, right.period), CONDITION)
    if left.kind != right.kind or left.kind == CONDITION or (left.kind == DATE and left.period):
        _refuse(f"{left.sql} is {left.kind} and {right.sql} is {right.kind}, which cannot be compared")
    return Term(f"({left.sql} {sign} {right.sql})", CONDITION)


def _is_date_column(term: Term) -> bool:
    return term.kind == DATE and term.period is None


def _against(column: str, sign: str, period: Period) -> str:
    """The whole period counts: what equals it lies in it, what is later comes after its end."""
    start, end = moment(period.start), moment(period.end)
    return {
        "=": f"({column} >= {start} AND {column} < {end})",
        "<>": f"({column} < {start} OR {column} >= {end})",
        "<": f"({column} < {start})",
        "<=": f"({column} < {end})",
        ">": f"({column} >= {end})",
        ">=": f"({column} >= {start})",
    }[sign]


def _a(term: Term, kind: str) -> str:
    if term.kind != kind:
        _refuse(f"{term.sql} is {term.kind}, expected {kind}")
    return term.sql


def _refuse(reason: str) -> NoReturn:
    raise VSEError(f"where=: {reason}")
