"""What is measured of volumes: statistics like nnU-Net's, gzip, headers first, the cache."""

import gzip
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from helpers_volumes import BRAIN_SHAPE, SHAPE, TUMOUR, real_data, scan, store, write_case, write_cases

from autoconf.data import measure as measuring
from autoconf.data.brats import MODALITIES, find_cases
from autoconf.data.cache import Cache
from autoconf.data.counts import Counts, Intensities, Pool, count
from autoconf.data.gz import Memory, gunzip
from autoconf.data.volumes import read_grid, read_volume
from autoconf.errors import AutoconfError, DataError
from autoconf.inspect import inspect
from autoconf.inspect.fingerprint import fingerprint
from autoconf.pool import in_order
from autoconf.score import cases

REFERENCE = Path(real_data("brats") or ".").resolve().parents[1] / "reference" / "nnunet_2.8.1_fingerprint_22.json"
SHARES = {"median": 0.5, "p0.5": 0.005, "p99.5": 0.995}


def measured(data: Path | str, **how) -> dict:
    cases = find_cases(str(data))
    intensities = {contrast: Intensities.none() for contrast in MODALITIES}
    rows = []
    for found in measuring.measure_cases(cases, **how):
        found.add_to(intensities)
        rows.append(found.row)
    return fingerprint(rows, intensities)


# --- statistics -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_counts_are_those_of_numpy(dtype: type) -> None:
    lowest = 0 if np.dtype(dtype).kind == "u" else -100
    voxels = np.random.default_rng(0).integers(lowest, 100, 300_000).astype(dtype)
    values, counts = np.unique(voxels, return_counts=True)
    found, without = count(voxels), count(voxels[voxels != 0])
    assert (found.values == values).all() and (found.counts == counts).all()
    assert (without.values == values[values != 0]).all() and (without.counts == counts[values != 0]).all()
    wide = voxels.astype(float)
    assert found.moments.tolist() == [wide.sum(), (wide**2).sum(), wide.min(), wide.max()]


def test_numbers_too_far_apart_for_a_table_are_counted() -> None:
    found = count(np.array([5, -(10**9), 5, 10**9], np.int32))
    assert found.values.tolist() == [-(10**9), 5, 10**9] and found.counts.tolist() == [1, 2, 1]


def test_fractions_of_both_signs_are_counted_in_order() -> None:
    voxels = np.random.default_rng(0).normal(0, 1, 10_000)
    found = count(voxels)
    assert found.voxels == 10_000 and (np.diff(found.values) > 0).all()
    assert found.moments[2:] == pytest.approx([voxels.min(), voxels.max()])
    exact = np.sort(voxels)
    assert np.repeat(found.values, found.counts) == pytest.approx(
        exact, rel=2.5e-4
    )  # half a unit in the 12th binary digit


def test_each_case_weighs_the_same_inside_the_tumour() -> None:
    """The case with 1 voxel counts as much as that with 99; in any order, with zeros."""
    cases = [np.array([1000], np.int16), np.arange(99, dtype=np.int16)]
    for order in (cases, cases[::-1]):
        pool = Pool(equal_cases=True)
        for voxels in order:
            pool.add(count(voxels))
        found = pool.summary()
        assert found["mean"] == (1000 + 49) / 2 and (found["min"], found["max"]) == (0, 1000)
        assert found["std"] == pytest.approx(
            np.sqrt((1000**2 + (np.arange(99.0) ** 2).mean()) / 2 - 524.5**2), rel=1e-5
        )
        assert found["median"] in (98, 1000) and found["p0.5"] == 0 and found["p99.5"] == 1000


def test_repeating_a_case_changes_nothing_but_an_unweighted_mean_would() -> None:
    small, large = np.array([10, 20], np.int16), np.array([30] * 98, np.int16)
    equal, pooled = Pool(equal_cases=True), Pool(equal_cases=False)
    for pool in (equal, pooled):
        pool.add(count(small))
        pool.add(count(large))
    assert equal.summary()["mean"] == 22.5 and pooled.summary()["mean"] == 29.7


def test_merging_now_and_then_equals_merging_once() -> None:
    random = np.random.default_rng(0)
    cases = [random.integers(0, 1 << 22, 30_000).astype(np.int32) for _ in range(12)]  # enough to merge in between
    pool = Pool(equal_cases=False)
    for voxels in cases:
        pool.add(count(voxels))
    assert len(pool.pieces) < len(cases)
    for name, share in SHARES.items():
        exact = np.quantile(np.concatenate(cases), share, method="inverted_cdf")
        assert pool.summary()[name] == float(f"{exact:.6g}")


def test_the_foreground_of_files_is_what_lies_in_the_mask(tmp_path: Path) -> None:
    found = measured(write_cases(tmp_path))
    assert list(found["foreground"]) == list(MODALITIES)
    for number, contrast in enumerate(MODALITIES):
        inside = np.concatenate([scan(number, seed)[TUMOUR].ravel() for seed in range(4)]).astype(float)
        assert found["foreground"][contrast]["mean"] == pytest.approx(inside.mean(), rel=1e-5)
        assert found["foreground"][contrast]["std"] == pytest.approx(inside.std(), rel=1e-5)
    assert (scan(3)[TUMOUR] == 0).any() and found["foreground"]["flair"]["min"] == 0  # zeros in the mask do count


def test_without_masks_there_is_no_foreground(tmp_path: Path) -> None:
    write_case(tmp_path, "A", with_mask=False)
    found = measured(tmp_path)
    assert found["foreground"] == {} and list(found["modalities"]) == list(MODALITIES)


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "f4", "i4"])
def test_files_of_any_number_type_and_mixed_ones_have_the_same_fingerprint(tmp_path: Path, dtype: str) -> None:
    home = write_case(tmp_path / "a", "X")
    expected = measured(tmp_path / "a")
    store(scan(2).astype(dtype), home / "X_t2.nii.gz")
    assert measured(tmp_path / "a") == expected
    for number, end in enumerate(("_t1", "_t1ce", "_t2", "_flair")):
        store(scan(number).astype(dtype), home / f"X{end}.nii.gz")
    found = measured(tmp_path / "a")
    assert found == expected and tuple(found["cases"][0]["brain_shape"]) == BRAIN_SHAPE


# --- reading ----------------------------------------------------------------------------------

CONTENT = np.random.default_rng(0).integers(0, 9, 2_000_000, np.uint8).tobytes()


def zipped(path: Path, *parts: bytes) -> str:
    path.write_bytes(b"".join(parts))
    return str(path)


def test_gzip_of_one_or_several_members_and_padding(tmp_path: Path) -> None:
    whole, half = gzip.compress(CONTENT), len(CONTENT) // 2
    two = gzip.compress(CONTENT[:half]) + gzip.compress(CONTENT[half:])
    for data in (whole, two, whole + bytes(100)):
        assert gunzip(zipped(tmp_path / "x.gz", data), len(CONTENT)).tobytes() == CONTENT
    assert gunzip(zipped(tmp_path / "x.gz", two), 100).tobytes() == CONTENT[:100]


@pytest.mark.parametrize("wanted", [100, len(CONTENT)])  # the whole file is verified, however much of it is wanted
def test_damaged_gzip_is_refused(tmp_path: Path, wanted: int) -> None:
    whole = gzip.compress(CONTENT)
    spoilt, wrong = bytearray(whole), bytearray(whole)
    spoilt[-6] ^= 1
    wrong[len(whole) // 2] ^= 255
    for data in (bytes(spoilt), bytes(wrong), whole[:-20], whole[:-3], whole + b"rubbish", b"404 Not Found"):
        with pytest.raises((OSError, EOFError, ValueError)):
            gunzip(zipped(tmp_path / "x.gz", data), wanted)
    with pytest.raises(EOFError, match="promises"):
        gunzip(zipped(tmp_path / "x.gz", whole), len(CONTENT) + 1)


def test_memory_is_used_again(tmp_path: Path) -> None:
    store(scan(0), tmp_path / "a.nii.gz")
    store(scan(1), tmp_path / "b.nii.gz")
    memory = Memory()
    first = read_volume(str(tmp_path / "a.nii.gz"), memory)
    second = read_volume(str(tmp_path / "b.nii.gz"), memory)
    assert np.shares_memory(first.data, second.data) and (second.data == scan(1)).all()


def test_a_header_tells_the_grid_without_reading_voxels(tmp_path: Path) -> None:
    store(scan(0), tmp_path / "a.nii")
    path = tmp_path / "a.nii"
    path.write_bytes(path.read_bytes()[:400])  # no voxels are there
    assert tuple(read_grid(str(path)).shape) == SHAPE
    with pytest.raises(AutoconfError, match="truncated"):
        read_volume(str(path))


def test_a_structural_error_shows_before_any_voxel_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = write_cases(tmp_path) / "BraTS2021_00003"
    store(scan(0)[:, :, 1:], home / "BraTS2021_00003_t2.nii.gz")
    monkeypatch.setattr(measuring, "read_volume", lambda *_: pytest.fail("a volume was read"))
    with pytest.raises(AutoconfError, match="00003_t2"):
        measured(tmp_path)


def test_a_process_that_is_killed_is_one_line_whatever_was_done_in_it() -> None:
    with pytest.raises(AutoconfError, match="ended from outside, perhaps for want of memory. Give fewer --jobs"):
        list(in_order(signal.raise_signal, [(signal.SIGKILL,)] * 3, 2))
    pairs = [cases.Pair(str(number), "", __file__, __file__) for number in range(2)]
    with pytest.raises(AutoconfError, match="ended from outside"):
        list(in_order(cases.score_case, [(Deadly(), pair) for pair in pairs], 2, None))  # type: ignore[arg-type]


class Deadly:
    """A task that ends the process in which it arrives."""

    def __reduce__(self) -> tuple:
        return signal.raise_signal, (signal.SIGKILL,)


@pytest.mark.parametrize("jobs", [1, 3])
def test_broken_cases_can_be_left_out_and_the_others_keep_their_order(tmp_path: Path, jobs: int) -> None:
    data = write_cases(tmp_path, 9)
    store(np.zeros(SHAPE, np.int16), data / "BraTS2021_00004" / "BraTS2021_00004_t1.nii.gz")
    (data / "BraTS2021_00006" / "BraTS2021_00006_t2.nii.gz").write_bytes(b"no")
    found = list(measuring.measure_cases(find_cases(str(data)), jobs=jobs, keep_going=True))
    assert [number for number, item in enumerate(found) if isinstance(item, AutoconfError)] == [4, 6]
    assert isinstance(found[4], DataError) and found[4].kind == "constant"
    assert [item.row["case"][-1] for item in found if not isinstance(item, AutoconfError)] == list("0123578")


def test_processes_and_order_change_nothing(tmp_path: Path) -> None:
    data = write_cases(tmp_path, 7)
    assert measured(data, jobs=3) == measured(data)


# --- the cache --------------------------------------------------------------------------------


def forbid_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "measure", lambda case, *_: pytest.fail(f"{case.case} was measured again"))


def test_what_comes_from_the_cache_is_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_cases(tmp_path / "data")
    write_case(data, "unlabelled", with_mask=False)
    fractions = scan(0) * np.float32(0.3)
    store(fractions, data / "BraTS2021_00001" / "BraTS2021_00001_t1.nii.gz")
    fresh = measured(data)
    assert measured(data, cache=Cache(str(tmp_path / "cache"))) == fresh
    forbid_measuring(monkeypatch)
    assert json.dumps(measured(data, cache=Cache(str(tmp_path / "cache")))) == json.dumps(fresh)


@pytest.mark.parametrize("change", ["content", "time", "version"])
def test_what_changed_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    data, cache = write_cases(tmp_path / "data"), Cache(str(tmp_path / "cache"))
    measured(data, cache=cache)
    path = data / "BraTS2021_00001" / "BraTS2021_00001_t1.nii.gz"
    if change == "content":
        store(scan(0, seed=77), path)
    elif change == "time":
        before = os.stat(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    else:
        monkeypatch.setattr(measuring, "MEASURE_VERSION", measuring.MEASURE_VERSION + 1)
    again, measure = [], measuring.measure
    monkeypatch.setattr(measuring, "measure", lambda case, *rest: again.append(case.case) or measure(case, *rest))
    found = measured(data, cache=cache)
    assert len(again) == (4 if change == "version" else 1)
    assert len(os.listdir(tmp_path / "cache")) == 4  # the new record took the old one's place
    assert found == measured(data)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def encrypt(content: bytes) -> bytes:
    """Whole gzip, whole zip, but its directory says that the first array is encrypted."""
    zipped = bytearray(gzip.decompress(content))
    zipped[zipped.index(b"PK\x01\x02") + 8] |= 1  # bit 0 of the entry's flags
    return gzip.compress(bytes(zipped))


@pytest.mark.parametrize(
    "spoil", [cut, flip, encrypt, lambda _: b"", lambda _: b"rubbish", lambda _: gzip.compress(b"PK\x03\x04rubbish")]
)
def test_damaged_records_are_ignored(tmp_path: Path, spoil) -> None:
    data, cache = write_cases(tmp_path / "data"), Cache(str(tmp_path / "cache"))
    fresh = measured(data, cache=cache)
    for record in (tmp_path / "cache").iterdir():
        record.write_bytes(spoil(record.read_bytes()))
    assert measured(data, cache=cache) == fresh


def test_a_record_of_another_case_is_ignored(tmp_path: Path) -> None:
    data, cache = write_cases(tmp_path / "data"), Cache(str(tmp_path / "cache"))
    fresh = measured(data, cache=cache)
    first, *others = (tmp_path / "cache").iterdir()
    for record in others:
        record.write_bytes(first.read_bytes())
    assert measured(data, cache=cache) == fresh


def test_a_well_formed_record_with_impossible_counts_is_ignored(tmp_path: Path) -> None:
    data, cache = write_cases(tmp_path / "data", 1), Cache(str(tmp_path / "cache"))
    fresh = measured(data, cache=cache)
    put = Cache.put

    class Spoiling(Cache):
        def put(self, key, row, arrays):
            put(self, key, row, arrays | {"counts": -arrays["counts"]})

        def get(self, key):
            return None

    measured(data, cache=Spoiling(cache.folder))
    assert measured(data, cache=cache) == fresh
    assert not Counts(np.array([1.0]), np.array([-1]), np.zeros(4)).is_sound()


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data")
    (tmp_path / "file").touch()
    assert measured(data, cache=Cache(str(tmp_path / "file" / "cache"))) == measured(data)


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    data = write_cases(tmp_path / "data")
    monkeypatch.setattr("autoconf.data.cache.os.replace", fail)
    measured(data, cache=Cache(str(tmp_path / "cache")))
    assert os.listdir(tmp_path / "cache") == []


def test_inspect_keeps_and_uses_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = write_cases(tmp_path / "data"), tmp_path / "out"
    inspect(str(data), str(out))
    first = (out / "fingerprint.json").read_bytes()
    forbid_measuring(monkeypatch)
    inspect(str(data), str(out))
    assert (out / "fingerprint.json").read_bytes() == first


# --- real data --------------------------------------------------------------------------------


@pytest.mark.skipif(not (real_data("brats") and REFERENCE.exists()), reason="no real cases, or no fingerprint of them")
def test_real_cases_agree_with_nnunet() -> None:
    """nnU-Net draws 4.5 million voxels per case: its own numbers are 0.02 % off the exact ones."""
    theirs = json.loads(REFERENCE.read_text())
    names = {"mean": "mean", "std": "std", "p0.5": "percentile_00_5", "p99.5": "percentile_99_5"}
    found = measured(real_data("brats"))
    for channel, contrast in enumerate(MODALITIES):
        ours = found["foreground"][contrast]
        expected = theirs["foreground_intensity_properties_per_channel"][str(channel)]
        for name in ("median", "min", "max"):
            assert ours[name] == expected[name], (contrast, name)
        for name, their_name in names.items():
            assert ours[name] == pytest.approx(expected[their_name], rel=1e-3), (contrast, name)
    boxes = sorted(tuple(row["brain_shape"])[::-1] for row in found["cases"])
    assert boxes == sorted(map(tuple, theirs["shapes_after_crop"]))
