"""Preloaded by the processes that ssh starts: they end with the connection of the run that started them.

Without it they would stay when that run is killed, for ever and with all that they hold: a command that ssh started
outlives its connection, and workers that find no scheduler go on looking for one.
"""

import os
import signal
import sys
import time
from threading import Thread
from typing import Any

_PATIENCE = 20.0
"""Seconds for an orderly end."""


def dask_setup(server: Any) -> None:
    """Called by Dask as the process starts."""
    Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    while sys.stdin.buffer.read(1024):  # nobody writes; it ends with the connection
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    os._exit(1)
