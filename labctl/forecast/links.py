"""How long the commands of a run take on real wires, from what was sent in its rehearsal.

A twin answers at once, so the time of a command on the real bench is an assumption by kind of wire,
`COMMAND_S`. Moves and other things an instrument takes its time for are bench time and not counted here.
"""

from __future__ import annotations

from labctl.bench.bench import Bench
from labctl.bench.config import BenchConfig
from labctl.instruments.link import Link

from .forecast import LinkForecast

COMMAND_S = {"serial": 0.020, "tcp": 0.002, "visa": 0.005}
"""Wall time of one command with its answer: a USB serial adapter hands over every 16 ms, a short command
at 9600 baud takes some ms more; TCP and USB instruments answer within some ms."""
OTHER_S = 0.010


def assumption() -> str:
    """The assumed times, as a remark."""
    times = ", ".join(f"{1e3 * seconds:g} ms ({kind})" for kind, seconds in COMMAND_S.items())
    return f"wall time assumes per command {times}; moves and settling are bench time, as the twin has them"


class LinkMeter:
    """Counts what goes over the wires of an open bench from now on."""

    def __init__(self, bench: Bench) -> None:
        self._links = {name: i.link for name, i in bench.instruments.items() if i.link is not None}
        self._before = {name: _traffic(link) for name, link in self._links.items()}

    def forecast(self, config: BenchConfig) -> list[LinkForecast]:
        """The traffic until now, as it would go over the wires of the bench `config`."""
        return [self._link(name, link, config) for name, link in self._links.items()]

    def _link(self, name: str, link: Link, config: BenchConfig) -> LinkForecast:
        sent_before, all_before = self._before[name]
        sent, moved = _traffic(link)
        commands = round((sent - sent_before) / _mean_command_bytes(link))
        transport = _transport(name, link, config)
        wall_s = commands * COMMAND_S.get(transport, OTHER_S)
        return LinkForecast(name, transport, commands, moved - all_before, wall_s)


def _traffic(link: Link) -> tuple[int, int]:
    return link.bytes_sent, link.bytes_sent + link.bytes_received


def _mean_command_bytes(link: Link) -> float:
    """From the transcript, which holds the last commands only."""
    sent = [len(data) for _, way, data in link.transcript if way == ">"]
    return sum(sent) / len(sent) if sent else 1.0


def _transport(name: str, link: Link, config: BenchConfig) -> str:
    """That of the bench file, or of the twin where the bench file names a twin's instrument."""
    instrument = config.instruments.get(name)
    address = (instrument and instrument.address) or link.address
    return (link.address if address.startswith("twin://") else address).partition(":")[0]
