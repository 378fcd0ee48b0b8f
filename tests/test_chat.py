"""Questions to a language model behind an address: together or alone, paced, tried again, kept."""

import json
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from engine import chat
from engine.questions import Answer, Cache, Question, key, requests, tokens
from schemas.errors import ColignError, InputError
from tests.answering import Server, a_server, parts_of  # noqa: F401  (a fixture)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "answers.jsonl"))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that fail are made again at once."""
    monkeypatch.setattr(chat, "_FIRST_WAIT", 0.001)


def ask(
    server: Server, cache: Cache, *texts: str, batch: int = 1, secret: str | None = None, **options: Any
) -> list[str | None]:
    """Ask, and return what the cache holds then."""
    questions = [Question(text, f"part {text}") for text in texts]
    left = requests(questions, "m", cache, batch=batch, introduction="Several parts.")
    chat.ask(left, server.url, "m", secret, cache, **({"per_minute": 60000} | options))
    return [answer.text if (answer := cache.get(key("m", text))) else None for text in texts]


def test_ask__keeps_answers_and_asks_nothing_twice(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    assert ask(server, Cache(str(path)), "abc", "de", "abc", secret="secret") == ["label 3", "label 2", "label 3"]
    assert len(server.asked) == 2
    assert server.asked[0]["model"] == "m"
    assert set(server.secrets) == {"Bearer secret"}
    assert "secret" not in path.read_text()
    first = Cache(str(path)).get(key("m", "abc"))
    with path.open("ab") as file:
        file.write(b'{"prompt_sha256": "unfinish\xc3')  # by a process that was killed
    assert ask(server, Cache(str(path)), "abc", "f") == ["label 3", "label 1"]
    assert len(server.asked) == 3
    assert Cache(str(path)).get(key("m", "abc")) == first
    assert Cache(str(path)).get(key("m", "f")) is not None
    assert Cache(str(path)).get(key("other", "f")) is None


def test_cache__reads_answers_of_before_and_says_when_it_cannot(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"prompt_sha256": "a", "text": "t", "model": "m", "date": "d"}\nnull\n{"prompt_sha256": []}\n')
    assert Cache(str(path)).get("a") == Answer("a", "t", "m", "d", 1)
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\).*move it away"):
        Cache(str(tmp_path))


def test_ask__puts_several_questions_into_one_request(server: Server, cache: Cache) -> None:
    texts = ["a", "bb", "ccc", "dddd", "eeeee"]
    assert ask(server, cache, *texts, batch=2) == ["label 6", "label 7", "label 8", "label 9", "label 5"]
    assert sorted(len(parts_of(text)) for text in server.texts) == [0, 2, 2]
    assert [answer.together for text in texts if (answer := cache.get(key("m", text)))] == [2, 2, 2, 2, 1]
    assert {body["max_tokens"] for body in server.asked} == {30, 84}
    server.asked.clear()
    assert ask(server, cache, "f", *texts, "gg", batch=3)[::6] == ["label 6", "label 7"]
    assert [[*parts_of(text).values()] for text in server.texts] == [["part f", "part gg"]]  # what was missing


def without(found: dict[str, str], code: str) -> dict[str, str]:
    return {name: value for name, value in found.items() if name != code}


def spoilt(found: dict[str, str], what: str) -> str:
    """A bad answer to several questions, of which the second is the one that is spoilt."""
    first, second, third = found
    return {
        "prose": "They are all words.",
        "list": "1. label 99\n2. label 99\n3. label 99",
        "numbers": json.dumps({str(n): "label 99" for n in (1, 2, 3)}),
        "cut": json.dumps(found)[:-3],
        "nested": json.dumps({"answers": found}),
        "lacking": json.dumps(without(found, second)),
        # the second left out and the third counted as the second
        "renumbered": json.dumps({first: found[first], f"2{third[1:]}": found[third]}),
        "twice": json.dumps(found)[:-1] + f', "{second}": "label 99"}}',
        "empty": json.dumps(found | {second: " "}),
        "number": json.dumps(found | {second: 99}),
        "more": json.dumps(found | {"4-abcd": "label 99"}),
        "fenced": f"Here they are:\n```json\n{json.dumps(found, indent=1)}\n```\n",
    }[what]


@pytest.mark.parametrize(
    ("what", "alone"),
    [
        ("prose", ["a", "bb", "ccc"]),
        ("list", ["a", "bb", "ccc"]),
        ("numbers", ["a", "bb", "ccc"]),
        ("cut", ["a", "bb", "ccc"]),
        ("nested", ["a", "bb", "ccc"]),
        ("lacking", ["bb"]),
        ("renumbered", ["bb", "ccc"]),
        ("twice", ["bb"]),
        ("empty", ["bb"]),
        ("number", ["bb"]),
        ("more", []),
        ("fenced", []),
    ],
)
def test_ask__asks_alone_what_several_are_not_answered(
    server: Server, cache: Cache, what: str, alone: list[str]
) -> None:
    server.several = lambda found: spoilt(found, what)
    texts = ["a", "bb", "ccc"]
    expected = [f"label {len(text) + 5 * (text not in alone)}" for text in texts]  # with the five letters of "part "
    assert ask(server, cache, *texts, batch=3) == expected
    assert server.texts[1:] == alone


def test_ask__asks_alone_what_is_refused_together(server: Server, cache: Cache) -> None:
    server.refuse = lambda body: "too long" if parts_of(body["messages"][0]["content"]) else None
    assert ask(server, cache, "a", "bb", batch=2) == ["label 1", "label 2"]
    assert server.texts == ["a", "bb"]


def test_ask__goes_on_where_a_question_has_no_answer(server: Server, cache: Cache) -> None:
    server.refuse = lambda body: "content filter" if "bb" in body["messages"][0]["content"] else None
    with pytest.raises(ColignError, match=r"1 of 3 questions have no answer; the first: .*content filter"):
        ask(server, cache, "a", "bb", "ccc", batch=2)
    assert [cache.get(key("m", text)) is not None for text in ("a", "bb", "ccc")] == [True, False, True]


@pytest.mark.parametrize(("batch", "made"), [(1, 10), (20, 21)])
def test_ask__ends_where_nothing_is_ever_answered(server: Server, cache: Cache, batch: int, made: int) -> None:
    server.refuse = lambda body: "no such model"
    with pytest.raises(InputError, match="no such model"):
        ask(server, cache, *map(str, range(20 * batch)), batch=batch, at_once=1)
    assert len(server.times) == made


def test_ask__ends_where_nothing_is_answered_any_more(server: Server, cache: Cache) -> None:
    ask(server, cache, "of another day")
    server.refuse = lambda body: "no such model"
    with pytest.raises(InputError, match="no such model"):
        ask(server, cache, *map(str, range(20)), at_once=1)
    assert len(server.times) == 11


def test_ask__tries_again_where_an_answer_is_an_error(server: Server, cache: Cache, hasty: None) -> None:
    server.busy = 2
    assert ask(server, cache, "abc", secret="sk-hidden") == ["label 3"]
    assert len(server.times) == 3
    server.busy = 100
    with pytest.raises(ColignError, match=r"it answered with an error: overloaded Bearer \*\*\*"):
        ask(server, cache, "de", secret="sk-hidden")


def test_ask__tries_again_and_waits_as_told(server: Server, cache: Cache, hasty: None) -> None:
    server.first, server.retry_after = [503, 429], "0.4"
    assert ask(server, cache, "abc") == ["label 3"]
    assert len(server.times) == 3
    assert min(b - a for a, b in zip(server.times, server.times[1:], strict=False)) >= 0.4


def test_ask__waits_until_a_date_but_not_for_ever(
    server: Server, cache: Cache, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = int(time.time()) + 2  # dates have whole seconds
    server.first, server.retry_after = [429], formatdate(until, usegmt=True)
    ask(server, cache, "abc")
    assert time.time() >= until
    monkeypatch.setattr(chat, "_LONGEST_HOLD", 0.3)
    server.first, server.retry_after = [429], formatdate(time.time() + 60, usegmt=True)
    ask(server, cache, "de")
    assert 0.3 <= server.times[3] - server.times[2] < 30


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("header", ["", "-3", "nan", "soon", "Sun Nov  6 08:49:37 1994", "Wed, 99 Foo 2026 25:00 GMT"])
def test_ask__does_not_mind_what_says_no_time(
    server: Server, cache: Cache, hasty: None, header: str, status: int
) -> None:
    server.first, server.retry_after = [status], header
    assert ask(server, cache, "abc") == ["label 3"]


@pytest.mark.parametrize("batch", [1, 2])
def test_ask__keeps_its_pace(server: Server, cache: Cache, hasty: None, batch: int) -> None:
    server.first, begin = [500], time.monotonic()  # one request more
    ask(server, cache, *map(str, range(4 * batch)), batch=batch, per_minute=600, at_once=5)
    assert len(server.times) == 5
    assert max(server.times) - begin >= 0.4  # four gaps of a tenth of a second


def test_ask__says_what_is_wrong_and_keeps_what_was_answered(
    server: Server, cache: Cache, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(server, cache, "abc")
    server.first = [401]
    with pytest.raises(InputError, match=r"refused the request .status 401"):
        ask(server, cache, "x")
    monkeypatch.setattr(chat, "_TRIES", 2)
    server.first = [500] * 2
    with pytest.raises(ColignError, match=r"no answer after 2 tries .status 500"):
        ask(server, cache, "x")
    asked = requests([Question("x", "x")], "m", cache)
    with pytest.raises(ColignError, match="no answer after 2 tries"):
        chat.ask(asked, "http://127.0.0.1:9/v1", "m", None, cache, per_minute=60000)
    assert cache.get(key("m", "abc")) is not None
    assert cache.get(key("m", "x")) is None


def test_ask__ends_at_once_while_others_wait(server: Server, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "_FIRST_WAIT", 30)
    server.first, begin = [500, 401], time.monotonic()
    with pytest.raises(InputError, match="status 401"):
        ask(server, cache, "a", "b", at_once=2)
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize(
    ("finish", "content", "message"),
    [
        ("stop", " ", "gave an empty answer"),
        ("stop", None, "gave an empty"),
        ("stop", "<think>animals</think>\n** **", "gave an empty"),
        ("length", "a lab", "cut after 30 tokens"),
    ],
)
def test_ask__keeps_no_answer_that_is_none(
    server: Server, cache: Cache, finish: str, content: str | None, message: str
) -> None:
    server.finish, server.one = finish, lambda _: content
    with pytest.raises(ColignError, match=message):
        ask(server, cache, "abc")
    assert cache.get(key("m", "abc")) is None


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1",
        "http://",
        "http://[::1/v1",
        "file:///etc/passwd",
        "http://h:abc/v1",
        "http://h/a b",
        "http://é",
    ],
)
def test_ask__refuses_addresses_that_are_none(cache: Cache, url: str) -> None:
    with pytest.raises(InputError, match="expected an address such as"):
        chat.ask(requests([Question("a", "a")], "m", cache), url, "m", None, cache)


def test_ask__leaves_out_what_a_model_does_not_take(server: Server, cache: Cache) -> None:
    def refuse(body: dict[str, Any]) -> str | None:
        if "max_tokens" in body:
            return "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return "Unsupported value: 'temperature' does not support 0" if "temperature" in body else None

    server.refuse = refuse
    assert ask(server, cache, "a", "b", at_once=1) == ["label 1", "label 1"]
    assert len(server.times) == 4  # learnt from the first question
    assert all(body["max_completion_tokens"] == 30 for body in server.asked)


def test_ask__gives_the_key_to_nobody_else(server: Server, cache: Cache) -> None:
    server.first = [302]
    ask(server, cache, "abc", secret="secret")
    assert server.secrets == ["Bearer secret", None]
    server.refuse = lambda _: "the key sk-hidden is wrong"
    with pytest.raises(ColignError, match=r"the key \*\*\* is wrong"):
        ask(server, cache, "de", secret="sk-hidden")
    server.refuse = lambda _: "x" * 292 + "sk-hidden"  # where what it says is cut
    with pytest.raises(ColignError) as refused:
        ask(server, cache, "de", secret="sk-hidden")
    assert "sk-h" not in str(refused.value)


def test_ask__what_is_too_large_is_not_a_setting_that_is_refused(server: Server, cache: Cache) -> None:
    server.refuse = lambda _: "'max_tokens' or 'max_completion_tokens' is too large: 30"
    with pytest.raises(ColignError, match="is too large"):
        ask(server, cache, "a")
    assert len(server.times) == 1


def test_requests__hold_every_question_once(cache: Cache) -> None:
    questions = [Question(str(n), f"part {n}") for n in range(7)]
    found = requests([*questions, *questions], "m", cache, batch=3, introduction="Several.", longest=5)
    assert [question for request in found for question in request.questions.values()] == questions
    assert [request.tokens_written for request in found] == [51, 51, 5]
    assert found[2].text == "6"
    assert found[0].text.startswith("Several.\n\n[1-")


def test_tokens__of_a_text() -> None:
    assert [tokens(text) for text in ("", "abc", "abcde", "ябло")] == [0, 1, 2, 2]


def test_answer__of_half_a_sign_can_be_written(server: Server, cache: Cache) -> None:
    server.several = lambda found: json.dumps(dict.fromkeys(found, "a \ud83d b"))
    assert ask(server, cache, "a", "b", batch=2) == ["a ? b"] * 2
