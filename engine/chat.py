"""Answers of a language model behind an OpenAI-compatible address: paced, tried again, and kept."""

import hashlib
import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from schemas.errors import ColignError, InputError

_TRIES = 6
"""Times that a question is asked before the run ends."""

_TRY_AGAIN = (408, 409, 429, 500, 502, 503, 504)
"""Status codes after which the same question may be answered."""

_SECONDS = 120
"""Longest wait for an answer."""

_CHARACTERS = 4
"""Characters of a token, about, for estimates."""


@dataclass(frozen=True)
class Answer:
    """An answer and where it comes from."""

    prompt_sha256: str
    """Hash of the model's name and the question."""
    text: str
    model: str
    date: str
    """When it was given (ISO 8601, UTC)."""


class Cache:
    """Answers in a file, one JSON object a line; a line that a killed process left unfinished is overlooked."""

    def __init__(self, path: str) -> None:
        self._path, self._lock = Path(path), threading.Lock()
        self._answers: dict[str, Answer] = {}
        for line in self._path.read_text("utf-8").splitlines() if self._path.exists() else ():
            try:
                answer = Answer(**json.loads(line))
            except (ValueError, TypeError):
                continue
            self._answers[answer.prompt_sha256] = answer

    def get(self, key: str) -> Answer | None:
        """The answer to a question, if it was asked before."""
        return self._answers.get(key)

    def put(self, answer: Answer) -> None:
        """Keep an answer, on disk before this returns."""
        with self._lock:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            broken = self._path.exists() and not self._path.read_bytes().endswith(b"\n")
            with self._path.open("a", encoding="utf-8") as file:
                file.write(("\n" if broken else "") + json.dumps(asdict(answer), ensure_ascii=False) + "\n")
            self._answers[answer.prompt_sha256] = answer


class _Pace:
    """Lets requests begin at most so often."""

    def __init__(self, per_minute: float) -> None:
        self._gap, self._next, self._lock = 60 / per_minute, 0.0, threading.Lock()

    def wait(self) -> None:
        with self._lock:
            begin = max(self._next, time.monotonic())
            self._next = begin + self._gap
        time.sleep(max(0.0, begin - time.monotonic()))

    def hold(self, seconds: float) -> None:
        """Let no request begin for some seconds."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def key(model: str, question: str) -> str:
    """Hash by which an answer is known."""
    return hashlib.sha256(f"{model}\n{question}".encode()).hexdigest()


def tokens(text: str) -> int:
    """Tokens of a text, about: four characters each, and more where letters take several bytes."""
    return -(-len(text.encode()) // _CHARACTERS)


def ask(
    questions: Sequence[str],
    url: str,
    model: str,
    secret: str | None,
    cache: Cache,
    *,
    per_minute: float = 60,
    at_once: int = 4,
    longest: int = 30,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Answer]:
    """Ask a model every question that is not answered in the cache yet; each answer is kept at once.

    Parameters
    ----------
    url
        Base address, to which /chat/completions is added.
    secret
        Key that is sent as bearer token; None where none is needed.
    per_minute
        Requests that may begin in a minute.
    at_once
        Requests that may wait for an answer at the same time.
    longest
        Tokens of an answer at most.

    Yields
    ------
    Answers in the order of the questions, those of the cache included.

    Raises
    ------
    InputError
        The address refuses the key, the model or the question.
    ColignError
        It does not answer, again and again; what was answered before is kept.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url}: expected an address that begins with http:// or https://")
    pace, done = _Pace(per_minute), 0
    left = [question for question in dict.fromkeys(questions) if cache.get(key(model, question)) is None]
    progress(len(questions) - len(left), len(questions))
    with ThreadPoolExecutor(at_once) as pool:
        futures = {pool.submit(_one, question, url, model, secret, pace, longest): question for question in left}
        try:
            for future in as_completed(futures):
                text = future.result()
                cache.put(Answer(key(model, futures[future]), text, model, datetime.now(UTC).isoformat("T", "seconds")))
                done += 1
                progress(len(questions) - len(left) + done, len(questions))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for question in questions:
        answer = cache.get(key(model, question))
        assert answer is not None
        yield answer


def _one(question: str, url: str, model: str, secret: str | None, pace: _Pace, longest: int) -> str:
    message = {"role": "user", "content": question}
    body = json.dumps({"model": model, "messages": [message], "temperature": 0, "max_tokens": longest}).encode()
    head = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url.rstrip('/')}/chat/completions", body, head, method="POST")
    if secret:
        request.add_unredirected_header("Authorization", f"Bearer {secret}")  # or another host would get it
    why = ""
    for number in range(_TRIES):
        pace.wait()
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as reply:
                content = json.load(reply)["choices"][0]["message"]["content"]
            if isinstance(content, str) and content.strip():
                return " ".join(content.split())
            raise ColignError(f"{url}: gave an empty answer; allow longer ones, or choose another model")
        except urllib.error.HTTPError as error:
            why = f"status {error.code}: {error.read(300).decode('utf-8', 'replace').strip()}"
            if error.code not in _TRY_AGAIN:
                raise InputError(
                    f"{url}: refused the request ({why}); check the address, the model's name and the key"
                ) from error
            asked = error.headers.get("Retry-After", "")
            pace.hold(float(asked) if asked.isdigit() else 0)
        except (OSError, http.client.HTTPException) as error:
            why = str(getattr(error, "reason", error))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ColignError(f"{url}: its answer is not of the form of chat completions ({error!r})") from error
        time.sleep(min(30.0, 0.5 * 2**number) if number + 1 < _TRIES else 0)
    raise ColignError(f"{url}: no answer after {_TRIES} tries ({why}); run again later, answers so far are kept")
