"""The space that a search looks through: a YAML file of bundle keys, each with a range or values, checked in full."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from autoconf.bundle.overrides import flow
from autoconf.bundle.settings import Bundle, check_override
from autoconf.errors import AutoconfError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

RESERVED = {  # what the search itself sets, or what would make trials incomparable or look at the test list
    **dict.fromkeys(("datalist", "dataset_dir", "mask_dir", "output_dir", "cache_dir"), "names data, not a setting"),
    **dict.fromkeys(("fold", "seed"), "is the same for all trials, so that they can be compared"),
    **dict.fromkeys(("max_epochs", "val_interval"), "is the length of a trial: set max_epochs above the keys"),
    **dict.fromkeys(("resume", "device", "bundle_root", "network_name"), "belongs to the run, not to the training"),
    **dict.fromkeys(("run", "training", "checks", "validate"), "is what makes trials comparable"),
    **dict.fromkeys(("target_spacing", "image_size", "regions"), "changes what is scored: plan for it instead"),
}
FILE_KEYS = ("max_epochs", "stages", "keys")
RANGE_KEYS, VALUES_KEYS = {"low", "high", "log", "step"}, {"values"}
END_SHARE = 0.03  # of a range, from its end
STAGES = (("learning_rate",), ("dice_weight",))  # the study's: the rate first, then the weight at the best rate


@dataclass(frozen=True)
class Param:
    """One key of the bundle and what it may be: one of `values`, or a number from low to high.

    log: drawn evenly in its logarithm. step: a multiple of it above low. whole: whole numbers only.
    """

    key: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False

    def distribution(self) -> BaseDistribution:
        """As Optuna has it. Values are numbered: 0.3, 0.5, 0.7 have an order, and a list is no value to Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.values:
            count = len(self.values)
            return IntDistribution(0, count - 1) if self.ordered else CategoricalDistribution(range(count))
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    @property
    def ordered(self) -> bool:
        """Whether its values are numbers from low to high."""
        return all(_is_number(value) for value in self.values) and list(self.values) == sorted(self.values)

    def decode(self, drawn: Any) -> Any:
        """From what Optuna drew to the bundle's value; three digits are all that a range can mean."""
        if self.values:
            return self.values[int(drawn)]
        return int(drawn) if self.whole else float(f"{drawn:.3g}")

    def encode(self, value: Any) -> Any | None:
        """The opposite; None for a value that is not in the space."""
        if self.values:
            return self.values.index(value) if value in self.values else None
        if not _is_number(value) or not self.low <= value <= self.high or (self.whole and value != int(value)):
            return None
        if self.step and abs((value - self.low) / self.step - round((value - self.low) / self.step)) > 1e-6:
            return None
        return value

    def at_its_end(self, value: Any) -> bool:
        """Whether a number lies at, or next to, an end of the range: beyond it may be something better."""
        if self.values:
            return self.ordered and len(self.values) > 2 and value in (self.values[0], self.values[-1])
        if not _is_number(value) or (self.log and value <= 0):
            return False
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return min(at - low, high - at) <= END_SHARE * (high - low)

    def described(self) -> str:
        """`0.0001 to 0.002, log`, or `0.3, 0.5, 0.7`."""
        if self.values:
            return ", ".join(flow(value) for value in self.values)
        drawn = ", log" if self.log else "" if self.step is None else f", step {self.step:g}"
        return f"{self.low:g} to {self.high:g}{drawn}"


@dataclass(frozen=True)
class Space:
    """max_epochs: of each trial. stages: tuned one after the other; one stage of all keys is a joint search."""

    max_epochs: int
    stages: tuple[tuple[Param, ...], ...]

    @property
    def params(self) -> list[Param]:
        return [param for stage in self.stages for param in stage]


def read_space(path: str, bundle: Bundle, staged: bool = False) -> Space:
    """Read and check a space. staged: in stages; where the file names none, the learning rate, then the weight.

    Raises AutoconfError for whatever a trial could not use: before the first of them runs.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            content = yaml.safe_load(stream)
    except FileNotFoundError:
        raise AutoconfError(f"{path} is not there. Give --space a file such as BUNDLE/configs/tuning.yaml.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AutoconfError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())[:200]}).") from None
    if not isinstance(content, dict) or not isinstance(content.get("keys"), dict) or not content["keys"]:
        raise AutoconfError(
            f"{path}: has no `keys:` to tune. Write `keys:`, and below it `learning_rate: {{low: ...}}`."
        )
    for name in content:
        if name not in FILE_KEYS:
            raise AutoconfError(
                f"{path}: '{name}' is none of {', '.join(FILE_KEYS)}. A bundle's key goes below `keys`."
            )
    epochs = content.get("max_epochs")
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise AutoconfError(f"{path}: max_epochs is {epochs!r}. It must be a whole number of at least 1.")
    params = {key: _param(path, bundle, key, said) for key, said in content["keys"].items()}
    return Space(epochs, _stages(path, content.get("stages"), params, staged))


def own_value(bundle: Bundle, plan: Mapping[str, Any], key: str) -> Any:
    """What a key is if nobody tunes it: the plan's value, else the bundle's."""
    if key in plan:
        return plan[key]
    at: Any = bundle.config
    for part in key.split("::"):
        at = at[int(part)] if isinstance(at, list) else at[part]
    return at


def _stages(path: str, said: Any, params: dict[str, Param], staged: bool) -> tuple[tuple[Param, ...], ...]:
    if not staged:
        return (tuple(params.values()),)
    if said is None:
        said = [[key for key in stage if key in params] for stage in STAGES]
        rest = [key for key in params if not any(key in stage for stage in said)]
        said = [stage for stage in (*said, rest) if stage]
    if not isinstance(said, list) or not all(isinstance(stage, list) for stage in said):
        raise AutoconfError(
            f"{path}: stages is {said!r}. Write a list of lists, such as [[learning_rate], [dice_weight]]."
        )
    listed = [key for stage in said for key in stage]
    if sorted(map(str, listed)) != sorted(params):
        raise AutoconfError(f"{path}: stages must name each of the keys once ({', '.join(params)}).")
    return tuple(tuple(params[key] for key in stage) for stage in said)


def _param(path: str, bundle: Bundle, key: Any, said: Any) -> Param:
    if not isinstance(key, str):
        raise AutoconfError(f"{path}: {key!r} is no key of the bundle. Write its name.")
    top = re.split("::|#", key)[0]
    for reserved in (key, top):
        if reserved in RESERVED:
            raise AutoconfError(f"{path}: '{key}' cannot be tuned: it {RESERVED[reserved]}.")
    own = _find(path, bundle, key)
    if not isinstance(said, dict) or not (set(said) <= RANGE_KEYS or set(said) == VALUES_KEYS) or not said:
        raise AutoconfError(f"{path}: {key} is {said!r}. Write {{low: A, high: B, log: true}} or {{values: [A, B]}}.")
    param = _of_values(path, key, said["values"]) if "values" in said else _of_range(path, key, said, own)
    for value in param.values or (param.low, param.high):
        value = int(value) if param.whole else value
        if "::" in key:
            _check_kind(path, key, own, value)
        else:
            check_override(bundle, key, value)
    return param


def _find(path: str, bundle: Bundle, key: str) -> Any:
    """The bundle's own value of a key such as `network_def::dropout_rate`."""
    at: Any = bundle.config
    for part in key.split("::"):
        inside = at if isinstance(at, dict) else dict(enumerate(at)) if isinstance(at, list) else {}
        names = {str(name): name for name in inside}
        if part not in names:
            near = difflib.get_close_matches(part, names, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(names) or 'none'}."
            raise AutoconfError(f"{path}: bundle '{bundle.name}' has no '{key}' to tune. {hint}")
        at = inside[names[part]]
    if isinstance(at, dict) and "_target_" in at:
        raise AutoconfError(
            f"{path}: '{key}' is a part of the bundle, not a value. Tune one of its own: '{key}::NAME'."
        )
    return at


def _of_values(path: str, key: str, values: Any) -> Param:
    if not isinstance(values, list) or not values:
        raise AutoconfError(f"{path}: {key} has no values. Write {{values: [A, B]}}.")
    values = [_number(value) for value in values]
    if len({json.dumps(value) for value in values}) != len(values):
        raise AutoconfError(f"{path}: {key} has a value twice. Give each once.")
    return Param(key, tuple(values))


def _of_range(path: str, key: str, said: dict[str, Any], own: Any) -> Param:
    low, high, step = (_number(said.get(name)) for name in ("low", "high", "step"))
    log = said.get("log", False)
    for name, value in (("low", low), ("high", high)):
        if not _is_number(value) or not math.isfinite(value):
            raise AutoconfError(f"{path}: {key}: {name} is {value!r}. It must be a number.")
    if not low < high:
        raise AutoconfError(f"{path}: {key}: from {low} to {high} is an empty range. low must be below high.")
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise AutoconfError(
            f"{path}: {key}: log is {log!r}. It must be true or false; with true, low above 0 and no step."
        )
    if step is not None and (not _is_number(step) or not 0 < step <= high - low):
        raise AutoconfError(f"{path}: {key}: step is {step!r}. It must be a number above 0, up to high - low.")
    numbers = [low, high] if step is None else [low, high, step]
    whole = all(isinstance(number, int) for number in numbers) and isinstance(own, int)
    if isinstance(own, int) and not isinstance(own, bool) and not whole:
        raise AutoconfError(f"{path}: {key} is a whole number in the bundle ({own}). Give whole low, high and step.")
    return Param(key, (), low, high, log, step, whole)


def _check_kind(path: str, key: str, own: Any, value: Any) -> None:
    is_text = isinstance(own, str) and own.startswith(("$", "@"))
    kinds = (int, float) if isinstance(own, float) else type(own)
    if own is None or is_text or (isinstance(value, kinds) and isinstance(value, bool) is isinstance(own, bool)):
        return
    raise AutoconfError(f"{path}: '{key}' is {own!r} in the bundle; {value!r} is no value of that kind.")


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-4 as text; here it is a number."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
