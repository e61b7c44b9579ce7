"""The pictures of a search: Optuna's own plots, over the bundle's values instead of the numbers that Optuna drew."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

from autoconf.bundle.overrides import flow
from autoconf.experiments.tune.search import COMPLETE, FAILED, PRUNED, Trial
from autoconf.experiments.tune.space import Param
from autoconf.experiments.tune.study import importance_evaluator, load_optuna

DICE = "validation Dice"
INCHES = (6.0, 3.4)


class Plots:
    """PNGs of the trials that have a score, at least one of them in full."""

    def __init__(self, params: Sequence[Param], found: Sequence[Trial]) -> None:
        self.study = _study(params, found)

    def history(self) -> bytes:
        """Dice of each trial in full, and the best so far as a line."""
        return _png(_optuna_plots().plot_optimization_history(self.study, target_name=DICE))

    def learning_curves(self) -> bytes:
        """Dice of every trial over its epochs."""
        axes = _optuna_plots().plot_intermediate_values(self.study)
        axes.set(xlabel="epoch", ylabel=DICE)
        axes.get_legend().remove()  # a line for every trial, over the curves; the page's table has them
        return _png(axes)

    def one_setting(self, param: Param) -> bytes:
        """A setting against Dice."""
        return _png(_optuna_plots().plot_slice(self.study, params=[param.key], target_name=DICE))

    def importances(self) -> bytes:
        """How much of the differences each setting explains (PED-ANOVA)."""
        return _png(_optuna_plots().plot_param_importances(self.study, evaluator=importance_evaluator()))

    def parallel(self) -> bytes:
        """A line for each trial through all its settings to its Dice."""
        return _png(_optuna_plots().plot_parallel_coordinate(self.study, target_name=DICE))


def _optuna_plots() -> Any:
    load_optuna()
    from optuna.visualization import matplotlib as plots

    matplotlib.use("agg")
    return plots


def _study(params: Sequence[Param], found: Sequence[Trial]) -> Any:
    """A study in memory, with every trial so that its numbers stay; those that failed have no score."""
    optuna = load_optuna()
    of_optuna = optuna.trial.TrialState
    states = {COMPLETE: of_optuna.COMPLETE, PRUNED: of_optuna.PRUNED, FAILED: of_optuna.FAIL}
    study = optuna.create_study(direction="maximize")
    for trial in found:
        own = {param.key: param for param in params if param.key in trial.settings}
        frozen = optuna.trial.create_trial(
            state=states[trial.state],
            value=trial.dice if trial.state == COMPLETE else None,
            params={key: _plain(trial.settings[key]) for key in own},
            distributions={key: _distribution(param) for key, param in own.items()},
            intermediate_values=dict(enumerate(trial.curve, start=1)),
        )
        study.add_trial(frozen)
    return study


def _distribution(param: Param) -> Any:
    if not param.values:
        return param.distribution()
    return load_optuna().distributions.CategoricalDistribution([_plain(value) for value in param.values])


def _plain(value: Any) -> Any:
    """A list or a block, which no axis can have, as its text."""
    return value if isinstance(value, (int, float, str)) else flow(value)


def _png(axes: Any) -> bytes:
    figure = axes.figure
    figure.set_size_inches(*INCHES)
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.savefig(data, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return data.getvalue()
