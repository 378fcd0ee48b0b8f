"""Workers of a machine file."""

import os

from engine.workers.cluster import ClusterWorkers
from engine.workers.protocol import Workers
from engine.workers.serial import SerialWorkers
from schemas.machine import Machine


def create(machine: Machine, *, models: bool = True) -> Workers:
    """Make the workers that a machine file asks for; entering starts them, ready to open `models` or without them."""
    if machine.type == "serial":
        return SerialWorkers(
            machine.threads or len(os.sched_getaffinity(0)), machine.memory_bytes // 2, machine.products
        )
    return ClusterWorkers(machine, models=models)
