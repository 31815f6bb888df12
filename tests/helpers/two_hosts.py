"""Two hosts on one machine: network namespaces that only a cable joins, and one file system.

Use, as root of a user namespace (`unshare --user --map-root-user --net --uts`):
    python tests/helpers/two_hosts.py FOLDER m2hf extract ...

This process becomes host `lab-a` with scheduler, a worker and the command; `lab-b` has the other
worker. Ends with the command's exit code.
"""

import socket
import subprocess
import sys
from pathlib import Path

from lab import until

A, B, PORT = "10.99.0.1", "10.99.0.2", "8786"


def join(other: int) -> None:
    """A cable from this network namespace to that of process `other`."""
    there = ["nsenter", "--target", str(other), "--net"]
    cable = ["type", "veth", "peer", "name", "veth-b", "netns", str(other)]
    for command in (
        ["ip", "link", "add", "veth-a", *cable],
        ["ip", "address", "add", f"{A}/24", "dev", "veth-a"],
        ["ip", "link", "set", "veth-a", "up"],
        ["ip", "link", "set", "lo", "up"],
        [*there, "ip", "address", "add", f"{B}/24", "dev", "veth-b"],
        [*there, "ip", "link", "set", "veth-b", "up"],
        [*there, "ip", "link", "set", "lo", "up"],
    ):
        subprocess.run(command, check=True)


def main(folder: Path, command: list[str]) -> int:
    socket.sethostname("lab-a")
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen(arguments, stdout=2))
        return started[-1]

    def dask(what: str, *options: str) -> tuple[str, ...]:
        return (sys.executable, "-m", f"distributed.cli.dask_{what}", "--no-dashboard", *options)

    def worker(host: str, name: str) -> tuple[str, ...]:
        options = ["--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--resources", "cpu=1"]
        place = ["--host", host, "--name", name, "--local-directory", str(folder / name)]
        return dask("worker", f"tcp://{A}:{PORT}", *options, *place)

    ready = folder / "ready"
    hostname = f"import socket, sys, time; socket.sethostname('lab-b'); open({str(ready)!r}, 'w')"
    try:
        other = start(
            "unshare", "--net", "--uts", sys.executable, "-c", f"{hostname}; time.sleep(3600)"
        )
        until(ready.exists, "the other host")
        join(other.pid)
        start(*dask("scheduler", "--host", A, "--port", PORT))
        start(*worker(A, "a"))
        start("nsenter", "--target", str(other.pid), "--net", "--uts", *worker(B, "b"))
        from distributed import Client

        with Client(f"tcp://{A}:{PORT}", timeout=240) as client:
            client.wait_for_workers(2)
        return subprocess.run([*command, "--scheduler", f"tcp://{A}:{PORT}"]).returncode
    finally:
        for process in reversed(started):
            process.kill()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
