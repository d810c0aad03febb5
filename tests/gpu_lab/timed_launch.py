#!/usr/bin/env python3
"""Times one bare `docker run` of a server: from the command until /health answers 200.

usage: timed_launch.py NAME OUT_FOLDER [--port N] [--limit-seconds N] -- docker run -d --name NAME ...

Writes OUT/NAME.json (seconds until the command returned, the port opened, /health answered 200) and OUT/NAME.log (the
container's log with Docker's timestamps), prints the JSON, and ends non-zero when the server did not get ready.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import time
from pathlib import Path


def health(port: int) -> str:
    """The status of /health, or the name of the error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def docker(*arguments: str) -> str:
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(["docker", *arguments], **both, text=True, errors="replace", check=False)
    return done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description="Time one bare docker run.")
    parser.add_argument("name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--port", type=int, default=30000)
    parser.add_argument("--limit-seconds", type=float, default=240)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    start, clock = time.time(), time.monotonic()

    def elapsed() -> float:
        return round(time.monotonic() - clock, 3)

    done = subprocess.run(given.command, capture_output=True, text=True, check=False)
    result = {"name": given.name, "start": start, "run_returned_seconds": elapsed(), "first_seen": {}}
    if done.returncode:
        result["error"] = done.stderr[-800:]
    next_inspection = 0.0
    while not done.returncode and elapsed() < given.limit_seconds:
        answer = health(given.port)
        result["first_seen"].setdefault(answer, elapsed())
        if answer == "200":
            result["ready_seconds"] = elapsed()
            break
        if elapsed() > next_inspection:
            next_inspection = elapsed() + 2
            if docker("inspect", "--format", "{{.State.Running}}", given.name) != "true":
                result["error"] = "the container ended"
                break
        time.sleep(0.05)
    state = "{{.State.StartedAt}} {{.State.ExitCode}} {{.State.OOMKilled}}"
    result["state"] = docker("inspect", "--format", state, given.name)
    log = docker("logs", "--timestamps", given.name).splitlines()
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{given.name}.log").write_text("\n".join(sorted(log)) + "\n")  # stdout and stderr, merged by time
    (given.out / f"{given.name}.json").write_text(json.dumps(result))
    print(json.dumps(result))
    ready = "ready_seconds" in result
    if not ready:
        print("\n".join(line[:300] for line in log[-40:]))
    return 0 if ready else 1


if __name__ == "__main__":
    raise SystemExit(main())
