"""A server that many ask at once: every answer is that of its own image."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from helpers_label import Server

REQUESTS, CLIENTS = 200, 8
IMAGES = [("unetr3d", f"BraTS-GLI-0000{number}-000_flair") for number in range(4)]
IMAGES += [("pseudo2d", f"picture{number}") for number in range(4)]


def answer(server: Server, image: tuple[str, str]) -> bytes:
    model, name = image
    found = requests.post(f"{server.url}/infer/{model}", params={"image": name, "output": "image"}, timeout=600)
    assert found.status_code == 200, found.text
    return found.content


@pytest.mark.long
@pytest.mark.promise("Load", "200 requests of 8 clients are answered each with its own mask")
def test_two_hundred_requests_of_eight_clients_are_answered_each_with_its_own_mask(server, record_property):
    alone = {image: answer(server, image) for image in IMAGES}
    assert len(set(alone.values())) == len(IMAGES)
    asked = list(itertools.islice(itertools.cycle(IMAGES), REQUESTS))
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(lambda image: answer(server, image), asked))
    wrong = [image for image, found in zip(asked, answers, strict=True) if found != alone[image]]
    assert not wrong, f"{len(wrong)} of {REQUESTS}"
    record_property("figure", f"{REQUESTS - len(wrong)} of {REQUESTS} right")
