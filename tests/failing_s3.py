"""An S3 server (moto) that answers with 503 as long as a file is there.

python -m tests.failing_s3 PORT FILE
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_BODY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


def main(port: int, flag: Path) -> None:
    """Serve until the process is killed."""
    from moto.server import DomainDispatcherApplication, create_backend_app  # noqa: PLC0415  (not everyone has it)
    from werkzeug.serving import run_simple  # noqa: PLC0415

    healthy = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        if flag.exists():
            environ["wsgi.input"].read()
            respond("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(_BODY)))])
            return [_BODY]
        found: Iterable[bytes] = healthy(environ, respond)
        return found

    sys.stderr = sys.stdout = Path("/dev/null").open("w")  # noqa: SIM115  (as long as the process)
    run_simple("127.0.0.1", port, application, threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
