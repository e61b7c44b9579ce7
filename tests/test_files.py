"""Files that are there whole or not at all."""

from __future__ import annotations

import pytest
import torch
from helpers_bundles import scripts
from ignite.engine import Engine

files = scripts("unetr3d", "files")


@pytest.mark.parametrize(("mode", "old", "new"), [("wb", b"old", b"new"), ("w", "old", "n\u00e9w\n")])
def test_a_file_gets_its_name_when_it_is_whole(tmp_path, mode, old, new):
    path = tmp_path / "in" / "folders" / "file"
    for content in (old, new):
        with files.whole_file(path, mode) as stream:
            stream.write(content)
            assert content != old or not path.exists()
        assert path.read_bytes() == (content if mode == "wb" else content.encode())
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_was_there_stays_if_anything_goes_wrong(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(type(error)), files.whole_file(str(path), "w") as stream:
        stream.write("half")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_overlays_are_drawn_into_a_folder_that_is_not_there_yet(tmp_path):
    pytest.importorskip("matplotlib")
    overlays = scripts("pseudo2d", "overlays")
    engine = Engine(lambda engine, batch: [{key: torch.ones(1, 4, 4) for key in ("image", "label", "pred")}])
    overlays.Overlays(str(tmp_path / "out"), str(tmp_path / "log")).attach(engine)
    engine.run([[{"case": "a"}]])
    assert (tmp_path / "out" / "overlays.png").is_file()
