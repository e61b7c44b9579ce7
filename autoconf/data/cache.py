"""Keep what was measured of some files, so that unchanged files are not read again.

One record per case. Its name is a hash of the files' paths, so a changed file replaces its record; the record says of
which size, time and code version it is. A record is used only if it is whole, was written by this module, and says
exactly what is asked for; anything else in the folder is as good as nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from typing import Any

import numpy as np
from isal import igzip

from autoconf.errors import AutoconfError

KIND = "autoconf record 1"  # of the form of a record; another form, another number
Key = dict[str, Any]


class Cache:
    """Records in a folder, which is made when the first one is written. Nothing here is an error: a folder that
    cannot be written means that nothing is kept, a damaged record that it is not there.

    As a context: if bad input (an AutoconfError, a name that is no Unicode) ends it, and the folder that holds the
    cache was not there before, both go, because a run that is refused leaves nothing behind. An interrupted run keeps
    what it has.
    """

    def __init__(self, folder: str) -> None:
        """folder: for the records; its parent too is made if need be."""
        self.folder = folder
        parent = os.path.dirname(os.path.abspath(folder))
        self._new = next((path for path in (parent, folder) if not os.path.exists(path)), None)

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, (AutoconfError, UnicodeEncodeError)) and self._new is not None:
            shutil.rmtree(self._new, ignore_errors=True)

    def key(self, files: list[str], more: dict[str, Any]) -> Key | None:
        """What a record must say to be used: path, size and time (ns) of each file, and `more` (plain JSON data).

        files: absolute paths. None if a file cannot be looked at. Ask before the files are read.
        """
        try:
            stats = [os.stat(path) for path in files]
        except OSError:
            return None
        return {**more, "files": [[p, s.st_size, s.st_mtime_ns] for p, s in zip(files, stats, strict=True)]}

    def get(self, key: Key | None) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """The plain data and the arrays that were put under this key, or None."""
        if key is None:
            return None
        try:
            with open(self._path(key), "rb") as file:
                content = file.read()
            with np.load(io.BytesIO(igzip.decompress(content)), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            head = json.loads(arrays.pop("head").tobytes())
            if (head["kind"], head["key"]) != (KIND, key):
                return None
            return head["data"], arrays
        except Exception:  # noqa: BLE001 - whatever bytes that may be anything make the readers raise, it is no record
            return None

    def may_have(self, key: Key | None) -> bool:
        """Whether there is a record of these files, perhaps of another time: asked before headers are read."""
        return key is not None and os.path.exists(self._path(key))

    def put(self, key: Key | None, data: dict[str, Any], arrays: dict[str, Any]) -> None:
        """Keep data (plain JSON) and arrays, unless a file has changed since the key was made. Atomic."""
        if key is None or self.key([path for path, *_ in key["files"]], key | {"files": []}) != key:
            return
        head = json.dumps({"kind": KIND, "key": key, "data": data}).encode()
        packed = io.BytesIO()
        np.savez(packed, head=np.frombuffer(head, np.uint8), **arrays)
        partial = None
        try:
            os.makedirs(self.folder, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".partial", delete=False) as file:
                partial = file.name
                file.write(igzip.compress(packed.getvalue(), 1))
            os.replace(partial, self._path(key))
        except OSError:  # a full or read-only disk: the measuring goes on without
            if partial and os.path.exists(partial):
                os.remove(partial)

    def _path(self, key: Key) -> str:
        names = json.dumps([path for path, *_ in key["files"]]).encode()
        return os.path.join(self.folder, hashlib.sha256(names).hexdigest()[:32] + ".npz.gz")
