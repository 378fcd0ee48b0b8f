"""Labels of concepts: a real local server that answers as OpenAI's does, and files."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from engine import chat
from jobs.label import prompt
from schemas.errors import ColignError, InputError
from tests.small_study import SmallStudy, Terminal, call


class Server(ThreadingHTTPServer):
    """Answers every question with its number of letters; first with the status codes that a test wants."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.first: list[int] = []
        self.asked: list[dict[str, Any]] = []
        self.secrets: list[str | None] = []
        self.times: list[float] = []
        self.lock = threading.Lock()
        self.empty = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


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
            status = self.server.first.pop(0) if self.server.first else 200
            if status == 200:
                self.server.asked.append(body)
        content = f" label\n{len(body['messages'][0]['content'])} "
        content = " " if self.server.empty else content
        reply = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "1")
        if status == 302:
            self.send_header("Location", f"{self.server.url}/elsewhere")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def test_ask__keeps_answers_and_asks_nothing_twice(server: Server, tmp_path: Path) -> None:
    path = str(tmp_path / "answers.jsonl")
    found = list(chat.ask(["abc", "de", "abc"], server.url, "m", "secret", chat.Cache(path), per_minute=6000))
    assert [answer.text for answer in found] == ["label 3", "label 2", "label 3"]
    assert len(server.asked) == 2
    assert server.asked[0]["model"] == "m"
    assert set(server.secrets) == {"Bearer secret"}
    assert "secret" not in Path(path).read_text()
    with Path(path).open("a") as file:
        file.write('{"prompt_sha256": "unfinish')  # by a process that was killed
    again = list(chat.ask(["abc", "f"], server.url, "m", None, chat.Cache(path), per_minute=6000))
    assert [answer.text for answer in again] == ["label 3", "label 1"]
    assert len(server.asked) == 3
    assert again[0] == found[0]
    assert chat.Cache(path).get(chat.key("m", "f")) == again[1]
    assert chat.Cache(path).get(chat.key("other", "f")) is None


def test_ask__tries_again_and_waits_as_told(server: Server, tmp_path: Path) -> None:
    server.first = [503, 429]
    found = list(chat.ask(["abc"], server.url, "m", None, chat.Cache(str(tmp_path / "a")), per_minute=6000))
    assert found[0].text == "label 3"
    assert len(server.times) == 3
    assert server.times[2] - server.times[1] >= 1


def test_ask__keeps_its_pace(server: Server, tmp_path: Path) -> None:
    questions = [str(number) for number in range(5)]
    list(chat.ask(questions, server.url, "m", None, chat.Cache(str(tmp_path / "a")), per_minute=600, at_once=5))
    assert server.times[-1] - server.times[0] >= 0.35  # four gaps of a tenth of a second


def test_ask__says_what_is_wrong_and_keeps_what_was_answered(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "a")
    list(chat.ask(["abc"], server.url, "m", None, chat.Cache(path), per_minute=6000))
    server.first = [401]
    with pytest.raises(InputError, match=r"refused the request .status 401"):
        list(chat.ask(["x"], server.url, "m", None, chat.Cache(path), per_minute=6000))
    monkeypatch.setattr(chat, "_TRIES", 2)
    server.first = [500] * 2
    with pytest.raises(ColignError, match=r"no answer after 2 tries .status 500"):
        list(chat.ask(["x"], server.url, "m", None, chat.Cache(path), per_minute=6000))
    with pytest.raises(ColignError, match="no answer after 2 tries"):
        list(chat.ask(["x"], "http://127.0.0.1:9/v1", "m", None, chat.Cache(path), per_minute=6000))
    assert len(chat.Cache(path)._answers) == 1


def test_ask__refuses_empty_answers_and_addresses_that_are_none(server: Server, tmp_path: Path) -> None:
    server.empty = True
    cache = chat.Cache(str(tmp_path / "a"))
    with pytest.raises(ColignError, match="gave an empty answer"):
        list(chat.ask(["abc"], server.url, "m", None, cache, per_minute=6000))
    assert cache.get(chat.key("m", "abc")) is None
    with pytest.raises(InputError, match="begins with http"):
        list(chat.ask(["abc"], "localhost:8000/v1", "m", None, cache))


def test_ask__gives_the_key_to_no_other_host(server: Server, tmp_path: Path) -> None:
    server.first = [302]
    list(chat.ask(["abc"], server.url, "m", "secret", chat.Cache(str(tmp_path / "a")), per_minute=6000))
    assert server.secrets == ["Bearer secret", None]


def test_prompt__holds_words_and_sentences() -> None:
    text = prompt(["b", "a", "b"], ["b is here", "a too"])
    assert "Words: b, a\n" in text
    assert "- b is here\n- a too\n" in text


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


def test_label__asks_stores_exports_and_imports(
    finished: SmallStudy, terminal: Terminal, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    asked = ["label", finished.file, "--selection", "en", "--selection", "de+en", "--top", 2, "--per-minute", 6000]
    estimate = terminal.json(*asked, "--estimate", "--price", 1, 2)
    assert estimate["requests"] == 4
    assert estimate["cost"] == pytest.approx((estimate["tokens_read"] + 2 * estimate["tokens_written"]) / 1e6)
    assert server.asked == []
    found = terminal.json(*asked, "--model", "tiny-llm")
    assert len(found["labels"]) == 4
    questions = [body["messages"][0]["content"] for body in server.asked]
    english = next(q for q in questions if "the" in q.split("Words: ")[1])
    assert "- the cat sees" in english or "- a " in english or "- my " in english or "- the " in english
    terminal(*asked, "--model", "tiny-llm")
    assert len(server.asked) == 4
    stored = xr.open_zarr(finished.directory / "labels.zarr", consolidated=False)
    assert set(stored.model.values.tolist()) == {"tiny-llm"}
    assert all(len(value) == 64 for value in stored.prompt_sha256.values.tolist())
    assert not any("sk-hidden" in text for text in map(str, finished.files().values()))
    file = tmp_path / "labels.tsv"
    terminal("label", finished.file, "--export", file)
    lines = file.read_text().splitlines()
    assert len(lines) == 5
    file.write_text("\n".join([lines[0], lines[1].replace(lines[1].split("\t")[5], "by hand")]) + "\n")
    terminal("label", finished.file, "--import", file, "--export", tmp_path / "again.tsv")
    again = (tmp_path / "again.tsv").read_text()
    assert again.count("\n") == 5
    assert again.count("by hand") == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("checkpoint\tlabel\n", "line 1: expected the columns"),
        ("{head}tiny\tencoder\txx\t2\t0\tname\n", "line 2: the study has no selection 'xx'"),
        ("{head}tiny\tencoder\ten\t2\t99\tname\n", "line 2: expected a layer, a concept below 3"),
    ],
)
def test_label__names_the_line(
    finished: SmallStudy, terminal: Terminal, tmp_path: Path, rows: str, message: str
) -> None:
    file = tmp_path / "labels.tsv"
    file.write_text(rows.format(head="checkpoint\tstack\tselection\tlayer\tconcept\tlabel\n"))
    assert message in terminal("label", finished.file, "--import", file, code=2)


def test_label__says_what_it_needs(finished: SmallStudy, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert "give --model to ask one" in terminal("label", finished.file, code=2)
    assert "no address; give --url" in terminal("label", finished.file, "--model", "m", code=2)
    assert "has no layer 9; it has 2" in terminal("label", finished.file, "--model", "m", "--layer", 9, code=2)
