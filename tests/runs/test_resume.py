"""A run that goes on: committed points are passed over, a cut acquisition is replayed and completed."""

import numpy as np
import pytest

from labctl.runs.interrupts import NOW, Requests
from labctl.runs.past import Past
from labctl.runs.session import differences
from labctl.runs.supervision import RunStopped
from labctl.store import RunWriter, open_run
from labctl.sweeps import parse_axis
from labctl.timetags import Correlation, Counts
from tests.runs.stubs import make_run, stub_bench

AXIS = parse_axis("points(1 s, 2 s, 3 s)", "s")
DWELL_S = 0.5


def take(run, bench, cut=lambda point: None):
    """Three points of five blocks; what each one gave: attempt, counts, live time."""
    found = {}
    zero = run.once("zero", lambda: bench.clock.now())
    for point in run.sweep("scan", delay=AXIS):
        counts = Counts([1])
        cut(point)
        tags = run.acquire(bench.tagger, DWELL_S, counts, channels=[1])
        assert (counts.counts[1], counts.live_time_ps * 1e-12) == (
            tags.counts[1],
            pytest.approx(tags.live_time_s),
        )
        found[point.index] = (point.attempt, tags.counts[1], round(tags.live_time_s, 6))
        point.record(counts=tags.counts[1])
    return zero, found


def cut_run(tmp_path, blocks):
    """A run that is cut after so many blocks in all; its process then "dies"."""
    bench = stub_bench()
    requests = Requests()
    run, writer = make_run(bench, tmp_path, requests=requests)
    bench.tagger.script[blocks] = lambda: requests.ask_stop(NOW, "cut")
    with pytest.raises(RunStopped):
        take(run, bench)
    writer.flush()
    writer.close()
    return writer.directory


def go_on(directory, tmp_path, **options):
    bench = stub_bench()
    past = Past.of(open_run(directory))
    run, writer = make_run(bench, tmp_path, past=past, writer=RunWriter.resume(directory), **options)
    return bench, run, writer


@pytest.mark.parametrize("blocks", [0, 1, 4, 5, 7, 12])
def test_a_cut_run_ends_as_if_it_had_not_been_cut(tmp_path, blocks):
    directory = cut_run(tmp_path, blocks)
    bench, run, writer = go_on(directory, tmp_path)
    zero, found = take(run, bench)
    assert zero == 0.0, "what was found once is remembered"
    committed = blocks // 5
    assert found == dict.fromkeys(range(committed, 3), (0, 5, DWELL_S))
    assert bench.tagger.blocks == 15 - blocks, "only what is missing is taken"
    data = open_run(writer.finish("success"))
    assert data.rows("scan")["index"].tolist() == [0, 1, 2]
    assert data.rows("scan")["counts"].tolist() == [5, 5, 5]
    assert [a.live_time_ps for a in data.acquisitions] == [5 * 10**11] * 3
    tags = [sum(len(b) for b in data.tag_blocks(a)) for a in data.acquisitions]
    assert tags == [5, 5, 5]


def test_tags_of_all_parts_have_one_time_that_goes_forward(tmp_path):
    directory = cut_run(tmp_path, 7)
    bench, run, writer = go_on(directory, tmp_path)
    take(run, bench)
    data = open_run(writer.finish("success"))
    correlation = Correlation([1], window_ps=10**12, bin_ps=10**9)
    ends = [0]
    for acquisition in data.acquisitions:
        for block in data.tag_blocks(acquisition):
            assert block.begin_ps >= ends[-1] and block.epoch == 0
            ends.append(block.end_ps)
            correlation.update(block)
    assert correlation.live_time_ps == 15 * 10**11


def test_a_run_may_be_cut_many_times(tmp_path):
    directory = cut_run(tmp_path, 3)
    for _ in range(4):
        requests = Requests()
        bench, run, writer = go_on(directory, tmp_path, requests=requests)
        bench.tagger.script[2] = lambda requests=requests: requests.ask_stop(NOW, "cut again")
        with pytest.raises(RunStopped):
            take(run, bench)
        writer.flush()
        writer.close()
    bench, run, writer = go_on(directory, tmp_path)
    take(run, bench)
    data = open_run(writer.finish("success"))
    assert data.rows("scan")["counts"].tolist() == [5, 5, 5]


def test_an_aborted_run_that_was_completed_goes_on_too(tmp_path):
    bench = stub_bench()
    requests = Requests()
    run, writer = make_run(bench, tmp_path, requests=requests)
    bench.tagger.script[7] = lambda: requests.ask_stop(NOW, "cut")
    with pytest.raises(RunStopped):
        take(run, bench)
    directory = writer.finish("abort", "cut").parent
    bench, run, writer = go_on(directory, tmp_path)
    take(run, bench)
    data = open_run(writer.finish("success"))
    assert (data.status, data.rows("scan")["counts"].tolist()) == ("success", [5, 5, 5])


def test_feedback_is_remembered(tmp_path):
    def proposals(run, asked):
        def propose(rows):
            asked.append(len(rows))
            return {"x": float(len(rows))} if len(rows) < 3 else None

        for point in run.adaptive("search", propose, x="m"):
            yield point
            point.record(counts=int(point.x))

    bench, asked = stub_bench(), []
    run, writer = make_run(bench, tmp_path)
    steps = proposals(run, asked)
    next(steps), next(steps)  # the second point is not committed
    writer.flush()
    writer.close()
    _, run, writer = go_on(writer.directory, tmp_path)
    assert [point.x for point in proposals(run, asked)] == [1.0, 2.0]
    assert asked == [0, 1, 2, 3]


def test_live_time_is_added_to_a_finished_run(tmp_path):
    bench = stub_bench()
    run, writer = make_run(bench, tmp_path)
    take(run, bench)
    old = writer.finish("success").parent
    before = (old / "run.h5").read_bytes()
    bench = stub_bench()
    past = Past.of(open_run(old), extend="scan")
    writer = RunWriter.extend(old, tmp_path, without_rows_of=("scan",))
    run, writer = make_run(bench, tmp_path, past=past, writer=writer, extra_live_s={"scan": 0.2})
    _, found = take(run, bench)
    assert found == dict.fromkeys(range(3), (0, 7, 0.7)) and bench.tagger.blocks == 6
    data = open_run(writer.finish("success"))
    assert data.directory != old and (old / "run.h5").read_bytes() == before
    assert data.rows("scan")["counts"].tolist() == [7, 7, 7]
    assert [a.live_time_ps for a in data.acquisitions] == [7 * 10**11] * 3
    assert data.header["extends"] == open_run(old).header["uuid"]


def test_what_differs_is_said():
    before = {"bench_text": "a\nb", "identities": {"laser": "OBIS 1", "tagger": "TT"}, "git_commit": "1"}
    assert differences(before, dict(before)) == []
    now = {"bench_text": "a\nc", "identities": {"laser": "OBIS 2", "tagger": "TT"}, "git_commit": "2"}
    assert differences(before, now) == [
        "the bench file changed",
        "the instruments: laser was OBIS 1, is OBIS 2",
        "the version of labctl was 1, is 2",
    ]


def test_rates_of_nothing_are_no_numbers(tmp_path):
    from labctl.runs.acquiring import Acquisition

    assert np.isnan(Acquisition(0, 0.0, {1: 0}).rate(1))
