"""A local server that answers as OpenAI's does, and a fixture for the tests that import it."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


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
        if parts := parts_of(text):
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


def parts_of(text: str) -> dict[str, str]:
    """Parts of a request with several questions, by code."""
    return dict(re.findall(r"^\[(\S+)\]\n(.*?)\n\n(?=\[|Answer with one JSON)", text, re.DOTALL | re.MULTILINE))


@pytest.fixture(name="server")
def a_server() -> Iterator[Server]:
    """The server, in a thread."""
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()
