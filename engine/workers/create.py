"""Workers of a machine file."""

import os

from engine.workers.cluster import ClusterWorkers
from engine.workers.protocol import Workers
from engine.workers.serial import SerialWorkers
from schemas.errors import InputError
from schemas.machine import Machine


def create(machine: Machine) -> Workers:
    """Make the workers that a machine file asks for; entering starts them.

    Raises
    ------
    InputError
        The machine file names no address for type address.
    """
    if machine.type == "serial":
        return SerialWorkers(machine.threads or len(os.sched_getaffinity(0)), machine.memory_bytes // 2)
    if machine.type == "address" and not machine.address:
        raise InputError("machine of type address: expected the key address, such as tcp://host:8786, found none")
    return ClusterWorkers(
        machine.workers if machine.type == "local" else str(machine.address),
        threads=machine.threads or 1,
        memory=machine.memory_bytes,
        retries=machine.retries,
    )
