"""The command `colign`, whose modules take seconds to import: Ctrl-C then is no traceback either."""

import sys


def main() -> None:
    """Import the commands and run one."""
    try:
        from jobs.cli import main as run  # noqa: PLC0415  (that is what may be interrupted)

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
