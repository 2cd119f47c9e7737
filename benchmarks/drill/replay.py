"""One incident played through: begun, waited for, looked into, mended."""

import time
from typing import Any, Final, NamedTuple

from benchmarks.drill.agents import Agents, Tally
from benchmarks.drill.incidents import REFUSED, Incident
from benchmarks.drill.site import SCRAPE_SECONDS, Site

_QUIET_SECONDS: Final = 180.0
_REFUSED_SECONDS: Final = 10.0
_ROLLBACK_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.1


class Told(NamedTuple):
    """One alert of an incident."""

    alert: str
    wait_seconds: int
    """Its `for`, scaled."""
    seconds_from_fault: float | None
    """Until Alertmanager's receiver had it; None where it never had."""
    seconds_from_crossing: float | None
    """From the first scrape beyond the limit."""
    episodes: int
    """Finished since the fault."""

    @property
    def limit_seconds(self) -> float:
        """Two scrape intervals and the rule's own wait."""
        return 2 * SCRAPE_SECONDS + self.wait_seconds

    @property
    def is_in_time(self) -> bool:
        """It was told, soon enough after the series had crossed its limit."""
        took = self.seconds_from_crossing
        return took is not None and took <= self.limit_seconds


class Found(NamedTuple):
    """What came of an incident."""

    incident: Incident
    status: int
    """The service's, where it was asked to do something."""
    told: tuple[Told, ...]
    tally: Tally
    """What agents were answered until the last of them."""
    others: tuple[str, ...]
    """Alerts that were told besides."""
    rollout: str
    """What became of the trial, in a sentence."""
    is_rolled_back: bool

    @property
    def is_met(self) -> bool:
        """Told in time or refused, rolled back where it was a trial, every agent well answered."""
        incident, most = self.incident, self.incident.most_episodes
        is_known = all(each.is_in_time for each in self.told)
        if not incident.alerts:
            is_known = self.status == REFUSED
        is_soon = most is None or all(each.episodes <= most for each in self.told)
        is_over = self.is_rolled_back or not incident.is_trial
        return is_known and is_soon and is_over and not self.tally.invalid + self.tally.failed


def replay(site: Site, agents: Agents, incident: Incident, settle_seconds: float) -> Found:
    """Play it through after a pause; afterwards the site is as it was, but for what rings on."""
    _wait_until_quiet(site, incident, settle_seconds)
    agents.take_tally()
    before = site.rollout().get("rollout_id")
    began_at = time.time()
    status = incident.begin(site, agents.world)
    heard = _listen(site, incident, began_at)
    fault_at = began_at
    if incident.version is not None:
        fault_at = agents.first_row_of(incident.version) or began_at
    rollout = _rollout_after(site, incident, before)
    tally = agents.take_tally()
    told = tuple(
        _told(site, alert, (began_at, fault_at, at), tally)
        for alert, at in zip(incident.alerts, heard, strict=True)
    )
    told_besides = set(site.pager.names_since(began_at)) - set(incident.alerts)
    incident.end(site, agents.world)
    return Found(
        incident,
        status,
        told,
        tally,
        tuple(sorted(told_besides)),
        _in_a_sentence(rollout),
        rollout.get("outcome") == "rolled_back",
    )


def _listen(site: Site, incident: Incident, began_at: float) -> list[float | None]:
    """When each alert was told."""
    longest = incident.longest_seconds if incident.alerts else _REFUSED_SECONDS
    until = time.time() + longest
    while True:
        heard = [site.pager.firing_since(alert, began_at) for alert in incident.alerts]
        is_all = bool(heard) and None not in heard
        if is_all or time.time() > until:
            return heard
        time.sleep(_LOOK_SECONDS)


def _told(site: Site, alert: str, moments: tuple[float, float, float | None], tally: Tally) -> Told:
    """Moments: asked for, at work, told; Unix seconds."""
    began_at, fault_at, at = moments
    wait_seconds = site.alerts[alert].wait_seconds
    if at is None:
        return Told(alert, wait_seconds, None, None, tally.episodes_until(time.time()))
    crossed_at = site.crossed_at(alert, began_at, at)
    if crossed_at is not None:
        # Agents note a version once it has answered: what it did was scraped, at times, before.
        fault_at = min(fault_at, crossed_at)
    return Told(
        alert,
        wait_seconds,
        at - fault_at,
        None if crossed_at is None else at - crossed_at,
        tally.episodes_until(at) - tally.episodes_until(fault_at),
    )


def _rollout_after(site: Site, incident: Incident, before: str | None) -> dict[str, Any]:
    """The trial that the incident began, once it is over; nothing where it began none."""
    until = time.time() + _ROLLBACK_SECONDS
    while incident.is_trial and time.time() < until:
        found = site.rollout()
        if found["outcome"] == "rolled_back":
            return found
        time.sleep(_LOOK_SECONDS)
    found = site.rollout()
    return found if found.get("rollout_id") != before else {}


def _in_a_sentence(rollout: dict[str, Any]) -> str:
    if not rollout:
        return "no trial"
    outcome = str(rollout["outcome"]).replace("_", " ")
    took = rollout["closed_at"]
    after = "" if took is None else f" after {took - rollout['opened_at']:.1f} s"
    return f"{outcome}{after}: {rollout['sentence']}"


def _wait_until_quiet(site: Site, incident: Incident, settle_seconds: float) -> None:
    """Until what was before is over: each alert must be able to begin."""
    began_at = time.time()
    time.sleep(settle_seconds)
    while set(incident.alerts) & site.ringing():
        if time.time() - began_at > _QUIET_SECONDS:
            raise TimeoutError(f"{incident.alerts} still ring from before")
        time.sleep(1.0)
