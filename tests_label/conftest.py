"""One real server for all tests: two small bundles, phantom scans and pictures, a path with a space and a plus."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from helpers_label import SMALL, START, Server, environment, free_port, make_studies, small_bundle, wait_until_up
from monailabel.client import MONAILabelClient


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("label")
    bundles, studies, port = home / "bundles", make_studies(home), free_port()
    copies = [small_bundle(name, bundles) for name in SMALL]
    log = open(home / "server.log", "w")  # noqa: SIM115 - the server writes to it
    process = subprocess.Popen(
        [START, "--port", str(port), *map(str, copies), str(studies)],
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment(),
        start_new_session=True,  # a group of its own: its children end with it
    )
    try:
        (home / "received").mkdir()  # in /tmp the client's file would be the server's own, which it removes
        client = MONAILabelClient(f"http://127.0.0.1:{port}", tmpdir=str(home / "received"))
        wait_until_up(client, process, home / "server.log")
        yield Server(f"http://127.0.0.1:{port}", studies, bundles, client)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        log.close()
