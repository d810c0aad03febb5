"""A PostgreSQL server from Debian's packages: in a folder and at a port of its own, as a user without rights."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
USER = "preheat"


class PostgresqlServer:
    """``password`` is what its clients have in PGPASSWORD."""

    def __init__(self) -> None:
        self._programs = PROGRAMS[-1].parent
        self._folder = Path(tempfile.mkdtemp(prefix="preheat-postgresql-"))
        self._run_as = {}
        if os.geteuid() == 0:  # as root it refuses to run
            user = pwd.getpwnam("postgres")
            self._run_as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        self.password = secrets.token_urlsafe(12)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        password_file = self._folder / "password"
        password_file.write_text(self.password)
        password_file.chmod(0o644)  # in a folder that its user alone enters
        self._run("initdb", "-D", self.data, "-U", USER, "-A", "scram-sha-256", "--pwfile", password_file, "--no-sync")
        self.start()

    @property
    def data(self) -> Path:
        return self._folder / "data"

    def new_database(self) -> str:
        """The URL of an empty database, as ``sweep_storage`` is given it."""
        name = f"sweep_{secrets.token_hex(4)}"
        server = f"postgresql://{USER}@127.0.0.1:{self.port}"
        with psycopg.connect(f"{server}/postgres", password=self.password, autocommit=True) as session:
            session.execute(f"CREATE DATABASE {name}".encode())
        return f"{server}/{name}"

    def start(self) -> None:
        options = f"-p {self.port} -k {self._folder} -h 127.0.0.1 -F"
        self._run("pg_ctl", "-D", self.data, "-l", self._folder / "log", "-w", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        subprocess.run([self._programs / "pg_ctl", "-D", self.data, "-m", "immediate", "stop"], capture_output=True,
                       cwd=self._folder, check=False, **self._run_as)  # fmt: skip
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: object) -> None:
        # A server keeps what it inherits open: its output goes to no pipe.
        with open(self._folder / "output", "a+") as stream:
            command = [self._programs / program, *map(str, arguments)]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=self._folder,
                                  check=False, **self._run_as)  # fmt: skip
            stream.seek(0)
            assert done.returncode == 0, f"{program}: {stream.read()}"
