"""What comes after a run: an analysis that is broken is told in one line, with where the data are."""

from typing import ClassVar

import pytest

from labctl.runs import Experiment, execute
from labctl.runs.execute import analyse_run
from labctl.runs.session import ExperimentFailed
from labctl.store import RunWriter


class Broken(Experiment):
    """Cannot be analysed."""

    name: ClassVar[str] = "broken"
    roles: ClassVar[dict] = {}

    def analyse(self, data):
        return 1 / 0


def test_a_broken_analysis_says_where_the_data_are(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "experiment_of", lambda data: Broken())
    folder = RunWriter.create(tmp_path, "broken", {}).finish("success").parent
    with pytest.raises(ExperimentFailed, match="analysis of broken failed with ZeroDivisionError") as caught:
        analyse_run(folder)
    assert str(folder) in str(caught.value)
