"""Preloaded by worker processes on this computer: Ctrl-C in the terminal is for the run, which then ends them.

Without it they die of it themselves, each with a traceback, before the run can say how to go on.
"""

import signal
from threading import current_thread, main_thread
from typing import Any


def dask_setup(worker: Any) -> None:
    """Called by Dask as the process starts."""
    if current_thread() is main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
