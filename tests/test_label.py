"""Labels of concepts: a real local server that answers as OpenAI's does, and files."""

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from engine import chat, paths
from engine.questions import Answer, Cache, Question, key, requests, tokens
from jobs.label import question
from schemas.errors import ColignError, InputError
from tests.small_study import SmallStudy, Terminal, call


class Server(ThreadingHTTPServer):
    """Answers every question, or part of one, with its number of letters; a test wants other things of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.first: list[int] = []
        """Status codes of the first requests."""
        self.retry_after = "1"
        self.refuse: Callable[[dict[str, Any]], str | None] = lambda body: None
        """What is wrong with a request, if anything."""
        self.several: Callable[[dict[str, str]], str] = json.dumps
        """Answer to several questions, from what each is answered."""
        self.one: Callable[[str], str | None] = lambda text: f" label\n{len(text)} "
        self.finish = "stop"
        self.busy = 0
        """Requests that are answered with an error in place of an answer."""
        self.asked: list[dict[str, Any]] = []
        self.secrets: list[str | None] = []
        self.times: list[float] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def texts(self) -> list[str]:
        """What was answered."""
        return [body["messages"][0]["content"] for body in self.asked]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.answer({"messages": [{"content": "elsewhere"}]})

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, body: dict[str, Any]) -> None:
        with self.server.lock:
            self.server.times.append(time.monotonic())
            self.server.secrets.append(self.headers.get("Authorization"))
            refused = self.server.refuse(body)
            status = self.server.first.pop(0) if self.server.first else 400 if refused else 200
            if status == 200:
                self.server.asked.append(body)
            finish = self.server.finish
            self.server.busy -= (busy := self.server.busy > 0)
        text = body["messages"][0]["content"]
        if parts := _parts(text):
            content = self.server.several({code: f"label {len(part)}" for code, part in parts.items()})
        else:
            content = self.server.one(text)
        reply = json.dumps({"choices": [{"message": {"content": content}, "finish_reason": finish}]}).encode()
        if busy:
            reply = json.dumps({"error": f"overloaded {self.headers.get('Authorization')}"}).encode()
        reply = refused.encode() if refused else reply
        self.send_response(status)
        if status in (429, 503):
            self.send_header("Retry-After", self.server.retry_after)
        if status == 302:
            self.send_header("Location", f"{self.server.url}/elsewhere")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


def _parts(text: str) -> dict[str, str]:
    """Parts of a request with several questions, by code."""
    return dict(re.findall(r"^\[(\S+)\]\n(.*?)\n\n(?=\[|Answer with one JSON)", text, re.DOTALL | re.MULTILINE))


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


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
    assert sorted(len(_parts(text)) for text in server.texts) == [0, 2, 2]
    assert [answer.together for text in texts if (answer := cache.get(key("m", text)))] == [2, 2, 2, 2, 1]
    assert {body["max_tokens"] for body in server.asked} == {30, 84}
    server.asked.clear()
    assert ask(server, cache, "f", *texts, "gg", batch=3)[::6] == ["label 6", "label 7"]
    assert [[*_parts(text).values()] for text in server.texts] == [["part f", "part gg"]]  # what was missing


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
    server.refuse = lambda body: "too long" if _parts(body["messages"][0]["content"]) else None
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


def test_question__holds_words_and_sentences() -> None:
    found = question(["b", "a", "b"], ["b is here", "a too"])
    assert found.alone.count(found.part) == 1
    assert "Words: b, a\n" in found.part
    assert found.part.endswith("- b is here\n- a too")


@pytest.fixture(scope="module")
def finished(bert: str, tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    study = SmallStudy(tmp_path_factory.mktemp("label") / "s", bert)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.run.write_figures", lambda *_: None)
        assert call(patch, "run", study.file) == 0
    return study


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wide: None) -> Terminal:
    return Terminal(monkeypatch, capsys)


@pytest.fixture
def address(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, named by the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden\n")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_MODEL", "tiny-llm")
    return server


CHOSEN = ("--selection", "en", "--selection", "de+en", "--top", 2, "--per-minute", 60000)


@pytest.fixture
def study(finished: SmallStudy) -> Iterator[SmallStudy]:
    """A finished study in which nothing is labelled."""
    kept = finished.directory / "answers.jsonl"
    yield finished
    kept.unlink(missing_ok=True)
    shutil.rmtree(finished.directory / "labels.zarr", ignore_errors=True)


def test_label__asks_stores_exports_and_imports(
    study: SmallStudy, terminal: Terminal, address: Server, tmp_path: Path
) -> None:
    found = terminal.json("label", study.file, *CHOSEN)
    assert len(found["labels"]) == 4
    assert len(address.asked) == 1
    (text,) = address.texts
    parts = [*_parts(text).values()]
    assert len(parts) == 4
    english = next(part for part in parts if "the" in part.split("Words: ")[1])
    assert "- the cat sees" in english or "- a " in english or "- my " in english or "- the " in english
    assert [one["label"] for one in found["labels"]] == [f"label {len(part)}" for part in parts]
    terminal("label", study.file, *CHOSEN, "--batch", 1)
    assert len(address.asked) == 1
    stored = xr.open_zarr(study.directory / "labels.zarr", consolidated=False)
    assert set(stored.model.values.tolist()) == {"tiny-llm"}
    assert all(len(value) == 64 for value in stored.prompt_sha256.values.tolist())
    assert not any("sk-hidden" in text for text in map(str, study.files().values()))
    file = tmp_path / "labels.tsv"
    terminal("label", study.file, "--export", file)
    assert len(address.asked) == 1  # though the environment names a model
    lines = file.read_text().splitlines()
    assert len(lines) == 5
    file.write_text("\ufeff" + "\r\n".join([lines[0], lines[1].replace(lines[1].split("\t")[5], "by hand")]) + "\r\n")
    terminal("label", study.file, "--import", file, "--export", tmp_path / "again.tsv")
    again = (tmp_path / "again.tsv").read_text()
    assert again.count("\n") == 5
    assert again.count("by hand") == 1


def test_label__asks_one_concept_a_request_where_that_is_wanted(
    study: SmallStudy, terminal: Terminal, address: Server
) -> None:
    terminal("label", study.file, *CHOSEN, "--batch", 1, "--model", "other")
    assert len(address.asked) == 4
    assert all(text.endswith("Answer with the label alone.") for text in address.texts)
    assert {body["model"] for body in address.asked} == {"other"}  # not the one of the environment


def test_label__says_first_what_is_left_to_ask(
    study: SmallStudy,
    terminal: Terminal,
    address: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def estimate(*more: object) -> Any:
        return terminal.json("label", study.file, *CHOSEN, "--estimate", "--price", 1, 2, *more)

    before = estimate("--batch", 3)
    assert address.times == []
    assert [before[name] for name in ("requests", "concepts", "answered_before")] == [2, 4, 0]
    assert before["cost"] == pytest.approx((before["tokens_read"] + 2 * before["tokens_written"]) / 1e6)
    address.first = [401]
    said = terminal("label", study.file, *CHOSEN, "--batch", 3, "--price", 1, 2, "--at-once", 1, code=2)
    sentence = f"requests: 2, about 4 concepts (answered before: 0); tokens: about {before['tokens_read']} to read"
    assert said.index(sentence) < said.index("status 401")
    assert f"{before['cost']:.4f} at most" in said
    assert address.asked == []
    assert call(monkeypatch, "label", study.file, *CHOSEN, "--top", 1, "--json") == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["labels"]) == 2
    assert "requests: 1, about 2 concepts" in captured.err
    after = estimate("--batch", 3)
    assert [after[name] for name in ("requests", "concepts", "answered_before")] == [1, 2, 2]
    assert estimate("--model", "other")["concepts"] == 4
    address.asked.clear()
    terminal("label", study.file, *CHOSEN, "--batch", 3)
    assert sum(map(tokens, address.texts)) == after["tokens_read"]
    assert sum(body["max_tokens"] for body in address.asked) == after["tokens_written"]
    assert terminal.json("label", study.file, *CHOSEN, "--estimate")["cost"] is None


def test_label__stores_what_was_answered_before_something_failed(
    study: SmallStudy, terminal: Terminal, address: Server
) -> None:
    address.refuse = lambda body: "content filter" if len(address.asked) == 2 else None
    message = terminal("label", study.file, *CHOSEN, "--batch", 1, "--at-once", 1, code=1)
    assert "2 of 4 questions have no answer" in message
    assert "content filter" in message
    assert terminal.json("label", study.file, "--export", study.folder / "some.tsv", "--force")["all"] == 2
    address.refuse = lambda _: None
    assert len(terminal.json("label", study.file, *CHOSEN)["labels"]) == 4
    assert [len(_parts(text)) for text in address.texts] == [0, 0, 2]


def test_label__needs_no_address_where_all_is_answered(
    study: SmallStudy, terminal: Terminal, address: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal("label", study.file, *CHOSEN)
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert len(terminal.json("label", study.file, *CHOSEN)["labels"]) == 4


def test_label__replaces_no_file_unasked(study: SmallStudy, terminal: Terminal, address: Server) -> None:
    file = study.folder / "mine.tsv"
    file.write_text("mine")
    message = terminal("label", study.file, *CHOSEN, "--model", "m", "--export", file, code=2)
    assert "is there already; choose another name, or replace it with --force" in message
    assert file.read_text() == "mine"
    assert address.times == []  # nothing is paid for what cannot be written
    terminal("label", study.file, "--export", file, "--force")
    assert file.read_text().startswith("checkpoint\t")
    there = "memory://labels.tsv"
    for force in ([], ["--force"]):
        terminal("label", study.file, "--export", there, *force)
    assert (paths.read_text(there) or "").startswith("checkpoint\t")


HEAD = "checkpoint\tstack\tselection\tlayer\tconcept\tlabel"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("checkpoint\tlabel\n", "line 1: expected the columns"),
        (f"{HEAD}\ntiny\tencoder\txx\t2\t0\tname\n", "line 2: the study has no selection 'xx'; it has en, de, fr"),
        (f"{HEAD}\nbig\tencoder\ten\t2\t0\tname\n", "line 2: the study has no checkpoint 'big'; it has tiny"),
        (f"{HEAD}\ntiny\tdecoder\ten\t2\t0\tname\n", "line 2: the study has no stack 'decoder'; it has encoder"),
        (f"{HEAD}\ntiny\tencoder\ten\t1\t0\tname\n", "line 2: en has no layer 1; it has 2"),
        (f"{HEAD}\ntiny\tencoder\ten\t2\t99\tname\n", "line 2: expected a layer, a concept below 3"),
        (f"{HEAD}\ntiny\tencoder\ten\t²\t0\tname\n", "line 2: expected a layer, a concept below 3"),
        (f"{HEAD}\ntiny\tencoder\ten\t2\n", "line 2: expected a layer, a concept below 3"),
        (f"{HEAD}\n" + "tiny\tencoder\ten\t2\t0\tname\n" * 2, "line 3: labels the concept of line 2 again"),
        (f'{HEAD}\ntiny\tencoder\ten\t2\t0\t"name" one\n', "line 2: not of the form of tab-separated values"),
        (f"{HEAD}\tconcepts\ntiny\tencoder\ten\t2\t0\tname\tab12\n", "line 2: is about other concepts than the"),
    ],
)
def test_label__names_the_line(study: SmallStudy, terminal: Terminal, tmp_path: Path, rows: str, message: str) -> None:
    file = tmp_path / "labels.tsv"
    file.write_text(rows)
    assert message in terminal("label", study.file, "--import", file, code=2)
    assert not (study.directory / "labels.zarr").exists()


def test_label__says_what_it_needs(study: SmallStudy, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    assert "give --model to ask one, or set OPENAI_MODEL" in terminal("label", study.file, code=2)
    assert "no address; give --url" in terminal("label", study.file, "--model", "m", code=2)
    assert "has no layer 9; it has 2" in terminal("label", study.file, "--model", "m", "--layer", 9, code=2)
    assert "leave out --model" in terminal("label", study.file, "--model", "m", "--import", "x.tsv", code=2)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hid\nden")
    message = terminal("label", study.file, "--model", "m", "--url", "http://127.0.0.1:9", code=2)
    assert "OPENAI_API_KEY holds signs that no key has" in message
    assert "sk-hid" not in message
