"""Taking one run: open the bench, run the experiment, make everything safe, complete the file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from qcodes.parameters import ParameterBase

from labctl.bench.bench import Bench, TwinOptions, open_bench
from labctl.bench.heart import Kind
from labctl.bench.twin_client import TwinProcess
from labctl.errors import LabctlError
from labctl.instruments.base import SafeReport
from labctl.loading import find_config, loaded_user_files
from labctl.runs.experiment import Experiment
from labctl.runs.hooks import Hooks
from labctl.runs.interrupts import Requests, listen_to_signals
from labctl.runs.past import Past
from labctl.runs.progress import Progress, Tracker
from labctl.runs.remote import CommandPort
from labctl.runs.run import Run
from labctl.runs.states import State
from labctl.runs.supervision import RunStopped, Supervisor
from labctl.runs.watch_setup import make_detector_guard, make_watchman
from labctl.settings import RunSettings, Settings, load_settings
from labctl.store import RunWriter
from labctl.store.calibrations import CalibrationStore, Chosen, choose_calibrations
from labctl.store.provenance import machine_header, run_metadata

_log = logging.getLogger(__name__)
SNAPSHOT_LIMIT_S = 60.0
_SLICE_WALL_S = 0.05
_SLICE_TWIN_S = 1.0

COMPARED = {
    "bench_text": "the bench file",
    "identities": "the instruments:",
    "parameters": "the parameters:",
    "experiment_sha256": "the file of the experiment",
    "user_code_sha256": "your code:",
    "git_commit": "the version of labctl",
    "git_diff_sha256": "the uncommitted changes of labctl",
    "twin_sha256": "the file of the twin",
}
"""What has to be the same for a run to go on, by key of its header."""


class ExperimentFailed(LabctlError):
    """The code of an experiment raised an error."""


class NotSafe(LabctlError):
    """An instrument could not be brought into its safe state."""


class CannotResume(LabctlError):
    """A run that cannot go on."""


@dataclass(frozen=True)
class Taken:
    """A run whose data are on disk: where, how it ended, and why."""

    directory: Path
    status: str
    reason: str


@dataclass(frozen=True)
class Continuation:
    """A run that goes on, and what it had reached.

    directory: of the interrupted run, or of the finished one that gets more live time, if there is
    `extra_live_s` (by label or sweep). force: go on although bench, code or configuration differ, and record
    what does.
    """

    directory: Path
    past: Past
    extra_live_s: Mapping[str, float] = field(default_factory=dict)
    force: bool = False


def take_run(
    experiment: Experiment,
    bench_name: str,
    *,
    root: Path,
    twin: TwinOptions | None = None,
    progress: Progress | None = None,
    command: str = "",
    labels: RunSettings | None = None,
    settings: Settings | None = None,
    on_open: Callable[[Bench], None] | None = None,
    continuation: Continuation | None = None,
) -> Taken:
    """Run `experiment` on the bench and complete its file.

    root: folder that collects runs. labels: what the user says of the run (operator, sample, position, tags).
    settings: those of `labctl.toml` if left out; its hooks are called. on_open: called with the open bench
    before the run begins. continuation: the run that goes on. A stop request gives the status "abort"; an
    exception is recorded as "fail" and raised again after everything is safe and the file is complete. Raises
    CannotResume when what goes on would not be the same run.
    """
    twin = twin or TwinOptions()
    settings = settings or load_settings()
    watcher = Tracker(progress)
    requests = Requests()
    opened: list[Bench] = []
    with (
        listen_to_signals(requests, watcher.say, running=lambda: bool(opened)),
        open_bench(bench_name, twin) as bench,
    ):
        bench.require(experiment.roles)
        calibrations = _calibrations(experiment, bench, root)
        for warning in calibrations.warnings:
            watcher.say(f"warning: {warning}")
        header = _header(experiment, bench, twin, command, labels or settings.run)
        header["calibrations"] = calibrations.used
        writer = _open_writer(root, experiment, header, continuation)
        bench.heart.record_in(writer.directory)
        opened.append(bench)
        if on_open is not None:
            on_open(bench)
        with _Session(experiment, bench, writer, requests, watcher, settings, continuation) as session:
            return session.carry_out(twin)


class _Session:
    """One run with everything around it: command port, hooks, audit of every set."""

    def __init__(
        self,
        experiment: Experiment,
        bench: Bench,
        writer: RunWriter,
        requests: Requests,
        progress: Tracker,
        settings: Settings,
        continuation: Continuation | None,
    ) -> None:
        self._experiment = experiment
        self._bench = bench
        self._writer = writer
        self._progress = progress
        self._continuation = continuation
        self._hooks = Hooks(
            settings, writer.directory, self._hook_failed,
            experiment=experiment.name, bench=bench.config.bench,
        )  # fmt: skip
        self._supervisor = Supervisor(
            bench, writer,
            requests=requests, progress=self._progress, hooks=self._hooks,
            watchman=make_watchman(bench, bench.config.monitors, bench.config.interlocks),
            guard=make_detector_guard(bench.config.detector_guard) if bench.config.detector_guard else None,
            settle_s=experiment.settle_after_light_s,
        )  # fmt: skip
        self._stack = ExitStack()

    def __enter__(self) -> _Session:
        self._stack.callback(self._hooks.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def carry_out(self, twin: TwinOptions) -> Taken:
        """The run itself, and the bench made safe and the file completed whatever happens."""
        past = self._continuation.past if self._continuation else Past()
        run = Run(
            self._bench, self._writer, self._experiment.records, self._supervisor,
            seed=twin.seed, slice_s=_slice_s(self._bench, twin), past=past,
            extra_live_s=self._continuation.extra_live_s if self._continuation else {},
        )  # fmt: skip
        status, reason = "success", ""
        try:
            self._progress.start(self._experiment.name, self._duration_s(past))
            with self._accessible(), _audited(self._supervisor):
                self._run(run, past)
        except RunStopped as stopped:
            status, reason = "abort", str(stopped)
        except LabctlError as error:
            status, reason = "fail", str(error)
            raise
        except Exception as error:
            status, reason = "fail", f"{type(error).__name__}: {error}"
            raise ExperimentFailed(
                f"{self._experiment.name} failed with {reason}; what was taken is in "
                f"{self._writer.directory} (LABCTL_DEBUG=1 shows where it failed)"
            ) from error
        except BaseException as error:
            status, reason = "fail", type(error).__name__
            raise
        finally:
            directory = self._finish(run, status, reason)
        return Taken(directory, status, reason)

    def _duration_s(self, past: Past) -> float:
        """Bench time that is still to be acquired."""
        extra = self._continuation.extra_live_s if self._continuation else {}
        added_s = sum(extra.get(item.sweep, 0.0) for item in past.acquisitions.values())
        return max(self._experiment.duration_s() + added_s - past.acquired_s, 0.0)

    @contextmanager
    def _accessible(self) -> Iterator[None]:
        """Other processes may send commands while the run lasts."""
        machine, commands = self._supervisor.machine, self._supervisor.requests.commands
        folder = self._writer.directory

        def details() -> dict[str, Any]:
            return {"reason": machine.reason, **self._progress.details()}

        with CommandPort(folder, commands, lambda: str(machine.state), details):
            yield

    def _run(self, run: Run, past: Past) -> None:
        late_s = past.bench_time_s - self._bench.clock.now() if self._bench.twin and past.data else 0.0
        self._bench.clock.sleep(late_s)  # a fresh twin goes on where the run was cut, with new photons
        with self._supervisor.heart.promise("reading all settings", SNAPSHOT_LIMIT_S):
            self._writer.snapshot("before", self._bench.snapshot())
        self._supervisor.machine.to(State.RUNNING)
        self._experiment.run(run)
        with self._supervisor.heart.promise("reading all settings", SNAPSHOT_LIMIT_S):
            self._writer.snapshot("after", self._bench.snapshot())

    def _finish(self, run: Run, status: str, reason: str) -> Path:
        """Make safe, record how the bench was left, complete the file. Raises NotSafe."""
        with suppress(Exception):  # whatever is wrong with the record, first everything is made safe
            self._supervisor.machine.to(State.FINISHING, reason)
        reports = self._bench.safe()
        for report in reports:
            if not report.safe:
                _log.error("%s; switch it off by hand", report)
        self._progress.finish()
        with self._supervisor.heart.promise("completing the file", kind=Kind.FINALISE):
            directory = self._complete(run, reports, status, reason)
        self._hooks.ended(status, reason)
        unsafe = [str(report) for report in reports if not report.safe]
        if unsafe:
            raise NotSafe(f"{'; '.join(unsafe)}; switch it off by hand; the run is complete in {directory}")
        return directory

    def _hook_failed(self, problem: str) -> None:
        with suppress(LabctlError):  # the run may be over
            self._writer.log("warning", problem, self._supervisor.now_s())

    def _complete(self, run: Run, reports: list[SafeReport], status: str, reason: str) -> Path:
        for report in reports:
            run.event("safe", instrument=report.instrument, safe=report.safe, steps=list(report.steps))
        run.event("link_traffic", **{k: list(v) for k, v in self._bench.link_traffic().items()})
        if self._bench.twin is not None:
            with suppress(LabctlError):  # a twin that has died tells no truth, but the data are complete
                truth = self._bench.twin.client.truth()
                self._writer.twin(truth | {"acquisitions": run.truth_by_acquisition})
        self._supervisor.machine.to(
            {"success": State.DONE, "abort": State.ABORTED}.get(status, State.FAILED), reason
        )
        return self._writer.finish(status, reason).parent


@contextmanager
def _audited(supervisor: Supervisor) -> Iterator[None]:
    """Record every set of every parameter."""
    before = ParameterBase.global_on_set_callback
    ParameterBase.global_on_set_callback = supervisor.audit
    try:
        yield
    finally:
        ParameterBase.global_on_set_callback = before


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of the bench, the code and the configuration is not as it was, in words."""
    found = []
    for key, what in COMPARED.items():
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
            found += [f"{what} {name} {_change(key, old.get(name), new.get(name))}" for name in names]
        else:
            found.append(f"{what} {_change(key, old, new)}")
    return found


def _change(key: str, old: Any, new: Any) -> str:
    return "changed" if key.endswith(("_text", "_sha256")) else f"was {old}, is {new}"


def _open_writer(
    root: Path, experiment: Experiment, header: dict[str, Any], continuation: Continuation | None
) -> RunWriter:
    if continuation is None:
        return RunWriter.create(root, experiment.name, header)
    assert continuation.past.data is not None
    header = machine_header(experiment.name, datetime.now(UTC)) | header
    found = differences(continuation.past.data.header, header)
    if found and not continuation.force:
        raise CannotResume(
            f"{continuation.directory}: {'; '.join(found)}; put it back as it was, or go on with --force, "
            "which records the difference"
        )
    extended = tuple(continuation.extra_live_s)
    if extended:  # the rows of what is extended are committed anew
        writer = RunWriter.extend(continuation.directory, root, without_rows_of=extended)
    else:
        writer = RunWriter.resume(continuation.directory)
    before = continuation.past.data.header
    changed = {key: header.get(key) for key in COMPARED if header.get(key) != before.get(key)}
    writer.event(
        "extended" if extended else "resumed", continuation.past.bench_time_s, differences=found,
        now={key: header.get(key) for key in ("pid", "host", "command")} | changed,
    )  # fmt: skip
    return writer


def _calibrations(experiment: Experiment, bench: Bench, root: Path) -> Chosen:
    identities = {name: str(identity) for name, identity in bench.identities.items()}
    store, name = CalibrationStore(root), bench.config.bench
    return choose_calibrations(store, name, experiment.calibrations, identities, datetime.now(UTC))


def _twin_sha256(bench: Bench) -> str | None:
    """Of the file of a twin that starts with the run; None on a real bench and on a twin that stays."""
    if bench.config.twin is None or not isinstance(bench.twin, TwinProcess):
        return None
    return _sha256(find_config("twins", bench.config.twin))


def _sha256(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def _slice_s(bench: Bench, twin: TwinOptions) -> float:
    if bench.twin is None:
        return _SLICE_WALL_S
    return _SLICE_TWIN_S if twin.speed is None else min(_SLICE_TWIN_S, _SLICE_WALL_S * twin.speed)


def _header(
    experiment: Experiment, bench: Bench, twin: TwinOptions, command: str, labels: RunSettings
) -> dict[str, Any]:
    plot = experiment.default_plot
    told = run_metadata(type(experiment), bench.file, labels)
    others = [file for file in loaded_user_files() if str(file) != told["experiment_file"]]
    return {
        **told,
        "user_code_sha256": {"/".join(file.parts[-2:]): _sha256(file) for file in others},
        "parameters": experiment.parameters(),
        "title": experiment.summary(),
        "bench": bench.config.bench,
        "bench_text": bench.file.read_text(encoding="utf-8"),
        "bench_values": bench.config.values,
        "identities": {name: str(identity) for name, identity in bench.identities.items()},
        "seed": twin.seed,
        "twin_id": bench.twin.twin_id if bench.twin else None,
        "twin_sha256": _twin_sha256(bench),
        "twin_overrides": dict(twin.overrides or {}),
        "bench_time_s": bench.clock.now(),
        "command": command,
        "default_plot": vars(plot) if plot else None,
    }
