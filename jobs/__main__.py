"""The command `colign`, whose modules take seconds to import: Ctrl-C then is no traceback either."""

import signal
import sys
from types import FrameType


def main() -> None:
    """Import the commands and run one."""
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)  # what is raised in the middle of an import may be caught there
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, stop)
    try:
        from jobs.cli import main as run  # noqa: PLC0415  (that is what may be interrupted)

        signal.signal(signal.SIGINT, before)
        if came:
            raise KeyboardInterrupt
        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
