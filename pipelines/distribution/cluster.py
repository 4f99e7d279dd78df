"""Which hosts train together, and which one of them this process is: from TF_CONFIG or from SLURM's variables."""

import dataclasses
import json
import os
import re
from collections.abc import Mapping

from medkeras.errors import InputError

SLURM = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE")
PORT = "MEDKERAS_PORT"
FIRST_PORT = 8888


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a training on several hosts.

    Attributes:
        workers: Address of each worker, `host:port`; the first one is the chief.
        index: Which of them this process is.

    Raises:
        ValueError: If there is no such worker, an address is no `host:port`, or two workers share one.

    Example:
        >>> Cluster(("a:1", "b:1"), 1).address
        'b:1'
    """

    workers: tuple[str, ...]
    index: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < len(self.workers):
            raise InputError(f"A worker is one of {len(self.workers)}, from 0. Received: index={self.index}")
        for worker in self.workers:
            if not re.fullmatch(r"[^:\s]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", worker):
                raise InputError(f"The address of a worker must be host:port. Received: {worker!r}")
        if len(set(self.workers)) < len(self.workers):
            raise InputError(f"Each worker must have an address of its own. Received: {', '.join(self.workers)}")

    @property
    def address(self) -> str:
        """The address of this process."""
        return self.workers[self.index]

    @property
    def port(self) -> int:
        """The port of this process."""
        return int(self.address.rpartition(":")[2])

    def to_tf_config(self) -> str:
        """Returns the value of TF_CONFIG that says the same."""
        return json.dumps({"cluster": {"worker": list(self.workers)}, "task": {"type": "worker", "index": self.index}})


def find_cluster(environment: Mapping[str, str] | None = None) -> Cluster | None:
    """Returns the cluster that TF_CONFIG describes, else that of a SLURM step of several tasks, else None.

    A `chief` of TF_CONFIG is the first worker. SLURM gives no ports: the tasks of a host take those from
    `MEDKERAS_PORT` on, 8888 by default.

    Args:
        environment: The variables; those of the process by default.

    Raises:
        ValueError: If a variable cannot be understood.

    Example:
        >>> find_cluster({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_NODELIST": "gpu[01-02]",
        ...               "SLURM_STEP_TASKS_PER_NODE": "2,1"})
        Cluster(workers=('gpu01:8888', 'gpu01:8889', 'gpu02:8888'), index=2)
    """
    environment = os.environ if environment is None else environment
    if environment.get("TF_CONFIG"):
        return _from_tf_config(environment["TF_CONFIG"])
    if all(name in environment for name in SLURM) and environment["SLURM_STEP_NUM_TASKS"] != "1":
        return _from_slurm(environment)
    return None


def _from_tf_config(text: str) -> Cluster | None:
    form = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
    try:
        values = json.loads(text)
        if values == {}:
            return None
        jobs, task = values["cluster"], values["task"]
        chief, workers = (list(jobs.get(name, ())) for name in ("chief", "worker"))
        index = int(task["index"]) + (len(chief) if task["type"] == "worker" else 0)
        is_known = task["type"] in jobs and set(jobs) <= {"chief", "worker"} and len(chief) <= 1
        are_addresses = all(isinstance(worker, str) for worker in chief + workers)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"TF_CONFIG must be {form}. Received: {text}") from error
    if not (is_known and are_addresses and isinstance(jobs.get("worker", []), list)):
        raise InputError(f"TF_CONFIG must be of workers, {form}, with or without a chief. Received: {text}")
    return Cluster((*chief, *workers), index)


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    rank, count, nodes, tasks = (environment[name] for name in SLURM)
    try:
        hosts, counts, first = expand_hosts(nodes), _expand_counts(tasks), int(environment.get(PORT, FIRST_PORT))
        workers = tuple(f"{host}:{first + i}" for host, n in zip(hosts, counts, strict=True) for i in range(n))
        if len(workers) != int(count):
            raise InputError(f"{len(workers)} tasks")
        return Cluster(workers, int(rank))
    except ValueError as error:
        received = ", ".join(f"{name}={environment[name]}" for name in SLURM)
        raise InputError(
            f"The variables of a SLURM step must name its hosts and tasks. Received: {received}"
        ) from error


def expand_hosts(text: str) -> list[str]:
    """Returns the hosts of a SLURM list, in its order.

    Raises:
        ValueError: If the list is of another form.

    Example:
        >>> expand_hosts("login,gpu[08-10,12]")
        ['login', 'gpu08', 'gpu09', 'gpu10', 'gpu12']
    """
    part = r"[^\[\],\s]+(?:\[[\d,-]+\][^\[\],\s]*)?"
    if not re.fullmatch(rf"{part}(,{part})*", text):
        raise InputError(f"A SLURM list of hosts is as gpu[01-04],login. Received: {text}")
    return [host for found in re.findall(part, text) for host in _expand_host(found)]


def _expand_host(text: str) -> list[str]:
    name, bracket, rest = text.partition("[")
    if not bracket:
        return [name]
    ranges, _, end = rest.partition("]")
    hosts = []
    for span in ranges.split(","):
        first, _, last = span.partition("-")
        numbers = range(int(first), int(last or first) + 1)
        hosts += [f"{name}{number:0{len(first)}d}{end}" for number in numbers]
    return hosts


def _expand_counts(text: str) -> list[int]:
    """Returns the tasks of each host: `2(x3),1` is 2, 2, 2, 1."""
    counts = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if found is None:
            raise InputError(text)
        counts += [int(found[1])] * int(found[2] or 1)
    return counts
