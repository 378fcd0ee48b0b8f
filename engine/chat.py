"""A language model behind an OpenAI-compatible address: asked at a pace, and again where it fails."""

import contextlib
import http.client
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from engine.questions import Answer, Cache, Question, Request, key, tidy
from schemas.errors import ColignError, InputError

_TRIES = 6
"""Times that a request is made before the run ends."""

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
"""Seconds before a request is made again: at first, and at most where the address does not say how long."""

_LONGEST_HOLD = 120.0
"""Seconds that an address may have all requests wait: twice what limits by the minute need."""

_TRY_AGAIN = (408, 409, 425, 429)
"""Status codes, besides those from 500 on, after which the same request may be answered."""

_NOT_THIS_ONE = (400, 413, 422)
"""Status codes that may be about one request, as where it is too long, and not about all."""

_FAILURES = 10
"""Questions without an answer after which the run ends, where the model never answered any."""

_SECONDS = 120
"""Longest wait for an answer."""


class _UnansweredError(InputError):
    """A question, or several together, has no answer, though others may have one."""


class _EndedError(Exception):
    """The run ends, so a request is not made any more."""


class _Pace:
    """Lets requests begin at most so often."""

    def __init__(self, per_minute: float) -> None:
        self._gap, self._next, self._lock = 60 / per_minute, 0.0, threading.Lock()
        self._ended = threading.Event()

    def wait(self) -> None:
        """Return when the next request may begin, or raise once the run ends."""
        self.pause(0)
        while (left := self._left()) > 0:
            self.pause(left)

    def _left(self) -> float:
        """Seconds to wait; where none are left, the turn is taken."""
        with self._lock:
            left = self._next - time.monotonic()
            if left <= 0:
                self._next = time.monotonic() + self._gap
            return left

    def pause(self, seconds: float) -> None:
        """Sleep, or raise once the run ends."""
        if self._ended.wait(seconds):
            raise _EndedError

    def hold(self, seconds: float) -> None:
        """Let no request begin for some seconds."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def end(self) -> None:
        """Let no request begin any more."""
        self._ended.set()


def ask(
    asked: Sequence[Request],
    url: str,
    model: str,
    secret: str | None,
    cache: Cache,
    *,
    per_minute: float = 60,
    at_once: int = 4,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Ask a model, and keep each answer in the cache as soon as it is there.

    Of several questions together, those that the answer leaves out, or all where it cannot be read or the request is
    refused, are asked again alone. A question that has no answer then does not keep others from theirs.

    Parameters
    ----------
    url
        Base address, to which /chat/completions is added.
    secret
        Key that is sent as bearer token; None where none is needed.
    per_minute
        Requests that may begin in a minute, repeated ones included.
    at_once
        Requests that may wait for an answer at the same time.
    progress
        Is told how many questions are answered, and of how many.

    Raises
    ------
    InputError
        The address refuses the key or the model, or nothing that it answers can be used.
    ColignError
        It does not answer, again and again, or some questions have no answer in the end; all others are kept.
    """
    pace, lock, failed, done = _Pace(per_minute), threading.Lock(), list[_UnansweredError](), 0
    model_there = _Model(url, model, secret, pace)
    total = sum(len(request.questions) for request in asked)

    def work(request: Request) -> None:
        nonlocal done
        try:
            unanswered = _answer(request, model_there, cache)
            with lock:
                failed.extend(unanswered)
                done += len(request.questions)
                progress(done - len(failed), total)
            if len(failed) >= _FAILURES and len(failed) == done:
                raise failed[0]
        except BaseException:
            pace.end()  # here, for this thread would begin the next request before another hears of it
            raise

    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(work, request) for request in asked]
        try:
            for future in as_completed(futures):
                with contextlib.suppress(_EndedError):  # why, another says
                    future.result()
        except BaseException:
            pace.end()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failed:
        raise ColignError(
            f"{len(failed)} of {total} questions have no answer; the first: {failed[0]}. Answers to the others are "
            "kept; run again to ask these once more"
        )


def _answer(request: Request, model: "_Model", cache: Cache) -> list[_UnansweredError]:
    """Ask together, then alone what has no answer; returns why questions have none in the end."""

    def keep(question: Question, text: str, together: int) -> None:
        date = datetime.now(UTC).isoformat("T", "seconds")
        cache.put(Answer(key(model.name, question.alone), text, model.name, date, together))

    left, failed = dict(request.questions), []
    if len(left) > 1:
        try:
            found = request.answers(model.answer(request.text, request.tokens_written))
        except _UnansweredError:  # as where the request is too long
            found = {}
        for code, text in found.items():
            keep(left.pop(code), text, len(request.questions))
    for question in left.values():
        try:
            keep(question, tidy(model.answer(question.alone, request.longest)), 1)
        except _UnansweredError as error:
            failed.append(error)
    return failed


class _Model:
    """A model at an address. Every request keeps the pace, also one that is made again."""

    def __init__(self, url: str, name: str, secret: str | None, pace: _Pace) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
            there = url.startswith(("http://", "https://")) and bool(parts.hostname) and parts.port != 0
            there = there and url.isascii() and url.isprintable() and " " not in url
        except ValueError:  # half of an IPv6 address, or a port that is no number
            there = False
        if not there:
            raise InputError(f"{url}: expected an address such as http://localhost:8000/v1")
        self.name, self._url, self._secret, self._pace = name, url, secret, pace
        self._refused: frozenset[str] = frozenset()
        """Settings that the model does not take."""

    def answer(self, text: str, longest: int) -> str:
        """What the model answers, in `longest` tokens at most."""
        why = ""
        for number in range(_TRIES):
            self._pace.wait()
            body = self._body(text, longest)
            try:
                with urllib.request.urlopen(self._request(body), timeout=_SECONDS) as reply:
                    found = json.load(reply)
                if "choices" in found or "error" not in found:
                    return self._content(found, longest)
                why = f"it answered with an error: {self._hidden(str(found['error']))}"  # as gateways do under load
            except urllib.error.HTTPError as error:
                why = f"status {error.code}: {self._said(error)}"
                if error.code == 400 and (refused := _refused(why, body)):
                    self._refused |= refused
                    continue
                if error.code not in _TRY_AGAIN and error.code < 500:
                    kind = _UnansweredError if error.code in _NOT_THIS_ONE else InputError
                    raise kind(
                        f"{self._url}: refused the request ({why}); check the address, the model's name and the key"
                    ) from error
                self._pace.hold(_told(error.headers.get("Retry-After", "")))
            except (OSError, http.client.HTTPException) as error:
                why = str(getattr(error, "reason", error))
            except (KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
                raise ColignError(
                    f"{self._url}: its answer is not of the form of chat completions ({error!r}); check the address"
                ) from error
            if number + 1 < _TRIES:
                self._pace.pause(min(_LONGEST_WAIT, _FIRST_WAIT * 2**number))
        raise ColignError(
            f"{self._url}: no answer after {_TRIES} tries ({why}); run again later, answers so far are kept"
        )

    def _body(self, text: str, longest: int) -> dict[str, Any]:
        limit = "max_completion_tokens" if "max_tokens" in self._refused else "max_tokens"
        body = {"model": self.name, "messages": [{"role": "user", "content": text}], limit: longest}
        return body if "temperature" in self._refused else body | {"temperature": 0}

    def _request(self, body: dict[str, Any]) -> urllib.request.Request:
        head = {"Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{self._url.rstrip('/')}/chat/completions", json.dumps(body).encode(), head, method="POST"
        )
        if self._secret:
            request.add_unredirected_header("Authorization", f"Bearer {self._secret}")  # or another host would get it
        return request

    def _content(self, reply: Any, longest: int) -> str:
        choice = reply["choices"][0]
        content = choice["message"]["content"]
        if choice.get("finish_reason") == "length":
            raise _UnansweredError(
                f"{self._url}: its answer was cut after {longest} tokens; allow longer ones, or choose another model"
            )
        if not (isinstance(content, str) and tidy(content)):
            raise _UnansweredError(f"{self._url}: gave an empty answer; allow longer ones, or choose another model")
        return content

    def _said(self, error: urllib.error.HTTPError) -> str:
        """What an address says of an error, without the key, which some repeat."""
        try:
            said = error.read(2**16).decode("utf-8", "replace").strip()
        except (OSError, http.client.HTTPException):  # the line broke
            return error.reason
        return self._hidden(said)

    def _hidden(self, said: str) -> str:
        """The beginning of what is said, without the key."""
        return (said.replace(self._secret, "***") if self._secret else said)[:300]


def _refused(why: str, body: dict[str, Any]) -> frozenset[str]:
    """Settings of a request that newer models of OpenAI refuse, and say so; not what is too large for others."""
    signs = {"max_tokens": "max_completion_tokens", "temperature": "temperature"}
    unsupported = "unsupported" in why.lower() or "not support" in why.lower()
    return frozenset(name for name, sign in signs.items() if unsupported and name in body and sign in why)


def _told(header: str) -> float:
    """Seconds to wait by a Retry-After, which is a number of seconds or a date; none where it is neither.

    Examples
    --------
    >>> [_told(header) for header in ("2", "0.5", "-1", "1e9", "Thu, 01 Jan 1970 00:00:00 GMT", "soon", "nan", "")]
    [2.0, 0.5, 0.0, 120.0, 0.0, 0.0, 0.0, 0.0]
    """
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except (ValueError, OverflowError):
            return 0.0
        # a date of the old form has no zone and is UTC, too
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()
    return min(max(0.0, seconds), _LONGEST_HOLD)
