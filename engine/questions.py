"""Questions to a language model: what is answered is kept in a file, what is left is asked several at a time."""

import hashlib
import json
import re
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from engine import paths
from schemas.errors import InputError

_CHARACTERS = 4
"""Characters of a token, about, for estimates."""

_NAME_OF_ANSWER = re.compile(r"^(label|answer)\s*\**\s*:\s*", re.IGNORECASE)

_CODE_TOKENS = 12
"""Tokens that the code of an answer among several takes, with its signs, at most."""


@dataclass(frozen=True)
class Question:
    """A question to a model."""

    alone: str
    """The whole of it, as it is asked alone. Its hash, with the model's name, is what the answer is known by."""
    part: str
    """What stands for it in a request with others."""


@dataclass(frozen=True)
class Answer:
    """An answer and where it comes from."""

    prompt_sha256: str
    """Hash of the model's name and the question as it is asked alone."""
    text: str
    model: str
    date: str
    """When it was given (ISO 8601, UTC)."""
    together: int = 1
    """Questions of the request to which it was given."""


class Cache:
    """Answers in a file, one JSON object a line; a line that a killed process left unfinished is overlooked."""

    def __init__(self, path: str) -> None:
        self._path, self._lock = Path(path), threading.Lock()
        self._answers: dict[str, Answer] = {}
        try:
            held = self._path.read_bytes()
        except FileNotFoundError:
            held = b""
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); expected the answers kept so far, move it away to ask anew"
            ) from error
        self._broken = not held.endswith(b"\n") and held != b""
        for line in held.splitlines():
            try:
                answer = Answer(**json.loads(line))
                self._answers[answer.prompt_sha256] = answer
            except (ValueError, TypeError):
                continue

    def get(self, key: str) -> Answer | None:
        """The answer to a question, if it was asked before."""
        return self._answers.get(key)

    def put(self, answer: Answer) -> None:
        """Keep an answer, on disk before this returns."""
        with self._lock, paths.explained(str(self._path)):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._broken + json.dumps(asdict(answer), ensure_ascii=False) + "\n")
            self._broken = False
            self._answers[answer.prompt_sha256] = answer


@dataclass(frozen=True)
class Request:
    """Questions that are asked together; a single one as it is asked alone."""

    questions: dict[str, Question]
    """By the codes that their answers carry among several."""
    introduction: str
    """What stands before the parts of several questions."""
    longest: int
    """Tokens of one answer at most."""

    @property
    def text(self) -> str:
        """What the model reads."""
        if len(self.questions) == 1:
            return next(iter(self.questions.values())).alone
        parts = [f"[{code}]\n{question.part}" for code, question in self.questions.items()]
        codes = ", ".join(json.dumps(code) for code in self.questions)
        end = f"Answer with one JSON object alone. Its keys are {codes}; the value of each is the answer to that part."
        return "\n\n".join([self.introduction, *parts, end])

    @property
    def tokens_written(self) -> int:
        """Tokens that the model may write."""
        several = len(self.questions) > 1
        return len(self.questions) * (self.longest + several * _CODE_TOKENS)

    def answers(self, text: str) -> dict[str, str]:
        """Answers to several questions, by code: those that are named once, as they were asked for, and not empty."""
        try:
            pairs = json.loads(text[text.find("{") : text.rfind("}") + 1], object_pairs_hook=list)
        except ValueError:
            return {}
        named = [code for code, _ in pairs]
        return {
            code: answer
            for code, value in pairs
            if code in self.questions and named.count(code) == 1 and isinstance(value, str) and (answer := tidy(value))
        }


def requests(
    questions: Iterable[Question],
    model: str,
    cache: Cache,
    *,
    batch: int = 1,
    introduction: str = "",
    longest: int = 30,
) -> list[Request]:
    """What is left to ask a model: every question that is not answered in the cache is in exactly one request.

    Parameters
    ----------
    batch
        Questions of a request at most.
    introduction
        What stands before the parts of several questions.
    longest
        Tokens of one answer at most.
    """
    known = {key(model, question.alone): question for question in questions}
    left = [hashed for hashed in known if cache.get(hashed) is None]
    return [
        # a model that leaves a question out and counts on would give its successors wrong answers, hence the hash
        Request({f"{n}-{one[:4]}": known[one] for n, one in enumerate(left[at : at + batch], 1)}, introduction, longest)
        for at in range(0, len(left), batch)
    ]


def key(model: str, question: str) -> str:
    """Hash by which an answer is known."""
    return hashlib.sha256(f"{model}\n{question}".encode()).hexdigest()


def tokens(text: str) -> int:
    """Tokens of a text, about: four characters each, and more where letters take several bytes."""
    return -(-len(text.encode()) // _CHARACTERS)


def tidy(answer: str) -> str:
    """An answer alone, in one line: without thoughts before it, a name for it, and marks around it.

    Examples
    --------
    >>> tidy("<think>cats,\\ndogs</think>\\n**Label:** Animals"), tidy('"Fish & chips"'), tidy("Plural: nouns")
    ('Animals', 'Fish & chips', 'Plural: nouns')
    """
    text = one_line(answer.rpartition("</think>")[2])
    before = None
    while text != before:
        before = text
        text = _NAME_OF_ANSWER.sub("", text.strip('*_`"“”„«» ')).strip()
    return text


def one_line(text: str) -> str:
    """A text with single spaces between its words; halves of surrogate pairs, which no file takes, become signs."""
    return " ".join(text.encode(errors="replace").decode().split())
