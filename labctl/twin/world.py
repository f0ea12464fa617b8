"""The simulated bench without its wires: knobs in, photons and power readings out, one clock.

The world is a pure function of its seed and of the history of its knobs. How often it is advanced, who
reads its tags and which instruments are talked to changes nothing. Every source of randomness has its own
stream, keyed by seed, name and the instant at which its present circumstances began.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
from numpy.random import Generator, Philox

from labctl.twin import optics, sample
from labctl.twin.config import WorldConfig
from labctl.twin.detection import DetectorPair
from labctl.twin.emission import Emitter
from labctl.twin.knobs import Knobs, PulseTrain, WorldError, check_knob
from labctl.twin.pulses import FAR_PS, all_syncs, first_number, pulses_of
from labctl.twin.tags import NO_TAGS, TagBuffer, Times

__all__ = ["Knobs", "PulseTrain", "World", "WorldError"]

# pulses of the dot count as independent only when the dot has emptied between them
LIFETIMES_PER_PULSE = 5
CHUNK_PS = 250_000_000_000


class World:
    """One bench at one time. Not thread-safe: whoever calls holds the lock."""

    def __init__(self, config: WorldConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        self._now_ps = 0
        self._knobs = Knobs()
        self.tags = TagBuffer(config, self._jitter_key("pulses"))
        self._emitter = Emitter(config, self._jitter_key("pulses"))
        self._detectors = DetectorPair(config.detection, self.rng("detectors"))
        self._drive = optics.Drive()
        self._train: PulseTrain | None = None
        self._gate_open = False
        self._gate_edges: dict[int, Times] = {}
        self._emitter.switch(0, self._drive, self.rng("emitter", 0))
        key, sigma_ps = self._jitter_key("mir"), config.detection.tagger_jitter_s * 1e12
        mir = config.mir
        self._mir_pulses = (mir.arrival_ps, mir.period_ps, FAR_PS, FAR_PS, FAR_PS, key, 0.0, 0.0, sigma_ps)

    @property
    def now_ps(self) -> int:
        """World time."""
        return self._now_ps

    @property
    def knobs(self) -> Knobs:
        """The knobs as they are set now."""
        return self._knobs

    def rng(self, source: str, *key: int) -> Generator:
        """The random generator of a source; the same arguments always give the same stream."""
        text = "/".join(map(str, (self.seed, source, *key)))
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        return Generator(Philox(key=int.from_bytes(digest, "little")))

    def _jitter_key(self, source: str) -> int:
        return int(self.rng(source).integers(1 << 62))

    def set(self, **changes: Any) -> None:
        """Change knobs from this instant on; equal values change nothing.

        Raises WorldError for an unknown knob or a value of the wrong kind; no knob changes then. Light that
        the model of the dot does not cover is refused by `advance_to`, so that knobs may pass through it.
        """
        for name, value in changes.items():
            check_knob(name, value)
        self._knobs = dataclasses.replace(self._knobs, **changes)

    def advance_to(self, time_ps: int) -> None:
        """Let the world go on until `time_ps`; nothing happens if it is there already.

        Raises WorldError when the light at the sample is one that the model of the dot does not cover; the
        world then stands still.
        """
        if time_ps <= self._now_ps:
            return
        self._settle()
        while self._now_ps < time_ps:
            self._step(min(time_ps, self._now_ps + CHUNK_PS))

    def _settle(self) -> None:
        """Let the knobs act: a source whose circumstances have changed begins a new segment."""
        now, knobs, config = self._now_ps, self._knobs, self.config
        light = optics.drive(knobs, config)
        train = optics.firing_train(knobs, config)
        self._check(light, train)
        if light != self._drive:
            self._emitter.switch(now, light, self.rng("emitter", now))
            self._drive = light
        if train != self._train:
            self.tags.sync.switch(now, train)
            self._train = train
        is_open = optics.mir_gate_open(knobs, config)
        if is_open != self._gate_open:
            self._gate_open = is_open
            self._gate_edges = self._gate_edge(5 if is_open else -5)

    def _check(self, light: optics.Drive, train: PulseTrain | None) -> None:
        pulses_of(train, self.config, 0)
        if light.train is not None and light.pump_per_s > 0:
            raise WorldError(
                "the CW laser and the pulsed diode both reach the sample; this dot is modelled under one of "
                "them at a time: switch one off"
            )
        shortest_ps = LIFETIMES_PER_PULSE * self.config.dot.tau_x_s * 1e12
        if light.train is not None and light.train.period_ps < shortest_ps:
            raise WorldError(
                f"pulses every {light.train.period_ps} ps are too fast for this dot: its pulses are "
                f"independent from {shortest_ps:.0f} ps ({LIFETIMES_PER_PULSE} lifetimes) on"
            )

    def _step(self, end_ps: int) -> None:
        detection = self.config.detection
        photons = self._emitter.advance(end_ps)
        # photons travel `latency_ps` through the cable, so arrivals in half of it are already all known
        tags_a, tags_b = self._detectors.advance(photons, end_ps + detection.latency_ps // 2)
        raw: dict[int, Times] = {1: tags_a, 2: tags_b, 4: self._mir_syncs(end_ps), **self._gate_edges}
        self._gate_edges = {}
        self.tags.advance(end_ps, raw)
        self._now_ps = end_ps

    def _mir_syncs(self, end_ps: int) -> Times:
        if self._drive.mir_field_mv_cm <= 0:
            return NO_TAGS
        low, high = first_number(self._now_ps, self._mir_pulses), first_number(end_ps, self._mir_pulses)
        delay_ps = self.config.detection.latency_ps + self.config.detection.skew_ps[4]
        return all_syncs(self._mir_pulses, low, high, delay_ps, 0, FAR_PS)

    def _gate_edge(self, channel: int) -> dict[int, Times]:
        detection = self.config.detection
        jitter_ps = self.rng("gate", self._now_ps).normal(0, detection.tagger_jitter_s * 1e12)
        tag = self._now_ps + detection.latency_ps + detection.skew_ps[5] + round(jitter_ps)
        return {channel: np.array([tag], np.int64)}

    def vis_power_at_meter_w(self) -> float:
        """Mean visible power at the pick-off meter, which stands behind beam block and attenuator."""
        return self.config.visible.pickoff_ratio * sum(
            optics.vis_power_behind_attenuator_w(self._knobs, self.config)
        )

    def truth(self) -> dict[str, Any]:
        """What an experiment would have to find out.

        "parameters": every value of the configuration by dotted name, and "derived": what follows from it at
        the present knobs. "state": what the dot and the light at the sample are doing now.
        """
        light = optics.drive(self._knobs, self.config)
        train = optics.firing_train(self._knobs, self.config)
        return {
            "parameters": {
                **_flat(self.config.model_dump()),
                "derived": dataclasses.asdict(sample.derive(light, self.config)),
            },
            "state": {
                "charge_state": "T" if self._emitter.charged else "X",
                "charged_time_s": self._emitter.charged_time_ps() * 1e-12,
                "vis_photons_at_sample_per_s": optics.vis_flux_at_sample_per_s(self._knobs, self.config),
                "mir_field_mv_cm": light.mir_field_mv_cm,
                "vis_power_at_meter_w": self.vis_power_at_meter_w(),
                "diode_fires": train is not None,
                "cw_emits": self._knobs.cw_power_w > 0,
                "mir_gate_open": optics.mir_gate_open(self._knobs, self.config),
                "mir_reaches_sample": light.mir_field_mv_cm > 0,
            },
        }


def _flat(tree: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat.update(_flat(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat
