"""A model hub on this machine: the part of the Hugging Face Hub's protocol that loading a model needs."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from typing_extensions import override


@contextmanager
def served(
    name: str, revisions: Mapping[str, Path], branches: Mapping[str, str]
) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Serve the folders of one repository, by commit; yields environment variables that lead there, and what was asked.

    `branches` are commits by name.
    """
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0].strip("/")
            asked.append(f"{self.command} {path}")
            if path.startswith(f"{name}/resolve/"):
                revision, file = path.removeprefix(f"{name}/resolve/").split("/", 1)
                self._file(branches.get(revision, revision), file)
            elif path.startswith(f"api/models/{name}"):
                what, *of = [*path.removeprefix(f"api/models/{name}").strip("/").split("/"), "main"]
                self._about(what, branches.get(of[0], of[0]))
            else:
                self._say(404, b"", {"X-Error-Code": "RepoNotFound"})

        def _about(self, what: str, commit: str) -> None:
            if commit not in revisions:
                return self._say(404, b"", {"X-Error-Code": "RevisionNotFound"})
            names = sorted(file.name for file in revisions[commit].iterdir())
            files = [{"type": "file", "path": one, "size": 1, "oid": commit} for one in names]
            whole = {"id": name, "modelId": name, "sha": commit, "siblings": [{"rfilename": one} for one in names]}
            return self._say(200, json.dumps(files if what == "tree" else whole).encode())

        def _file(self, commit: str, file: str) -> None:
            if commit not in revisions:
                return self._say(404, b"", {"X-Error-Code": "RevisionNotFound"})
            place = revisions[commit] / file
            if not place.is_file():
                return self._say(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            content = place.read_bytes()
            tag = hashlib.sha256(content).hexdigest()
            return self._say(200, content, {"X-Repo-Commit": commit, "ETag": f'"{tag}"'})

        def _say(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        @override
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}, asked
    finally:
        server.shutdown()
        server.server_close()
