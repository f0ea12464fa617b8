"""Finding experiments by name, among the user's own and those that come with labctl."""

from __future__ import annotations

from pydantic import ValidationError

from labctl.config_files import first_message
from labctl.errors import LabctlError
from labctl.loading import NotFound, experiment_files, load_file, nearest
from labctl.runs.experiment import Experiment
from labctl.store import RunData


class OtherParameters(LabctlError):
    """A stored run has parameters that its experiment does not accept any more."""


def find_experiment(name: str) -> type[Experiment]:
    """The experiment `name`. Raises NotFound with the nearest name."""
    files = experiment_files()
    if name not in files:
        raise NotFound(f"no experiment named {name!r}{nearest(name, files)}")
    module = load_file(files[name])
    found = [v for v in vars(module).values() if isinstance(v, type) and getattr(v, "name", None) == name]
    if not found or not issubclass(found[0], Experiment):
        raise NotFound(f"{files[name]} defines no Experiment with name = {name!r}")
    return found[0]


def experiment_of(data: RunData) -> Experiment:
    """The experiment that made a stored run, with the parameters it had.

    Raises NotFound when there is no such experiment any more, OtherParameters when it takes others now.
    """
    experiment = find_experiment(data.experiment)
    try:
        return experiment.model_validate(data.parameters)
    except ValidationError as error:
        raise OtherParameters(
            f"{data.directory}: the experiment {data.experiment} takes other parameters now: "
            f"{first_message(error)}; use its file as it was, which `run.h5` holds"
        ) from error
