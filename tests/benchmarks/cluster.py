"""Several nodes of one site under one load, each measured alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import attrs

from tests.benchmarks.load import GRACE_S, Load, dashboards, new_race, publisher
from tests.benchmarks.site import Site
from tests.benchmarks.subject import Subject, daemon_place
from tests.kit.daemon import until


def hears(subject: Subject) -> bool:
    """What other nodes show."""
    return subject.running.metrics()['tracking_component_up{component="relay"}'] == 1


@attrs.frozen
class Ran:
    """What was seen; a value a node, in the order of `ingest`."""

    count: int  # messages
    lasted_s: float  # from the first message to the last commit
    cpu_s: Sequence[float]  # meanwhile
    taken: Sequence[float]  # messages
    seen: Sequence[dict[str, float]]  # by its dashboards, see crowd.py; {} without any

    @property
    def rows_per_s(self) -> float:
        return self.count / self.lasted_s


def run(site: Site, folder: Path, ingest: Sequence[str], watching: int, load: Load, relay: bool = True) -> Ran:
    """`ingest`: [cluster] ingest of each node; `watching` dashboards on each. The folder must not be there."""
    site.afresh("daemon")
    folder.mkdir()
    race_id = new_race()
    with ExitStack() as stack:
        subjects = []
        for number, mode in enumerate(ingest):
            sections = {
                "app": {"node_id": f"n{number}"},
                "cluster": {"relay": "yes" if relay else "no", "ingest": mode},
                "mqtt": {"client_id": "bench-{node_id}"},
            }
            place = daemon_place(site, folder / f"node-{number}", "daemon", sections)
            subjects.append(stack.enter_context(place.daemon()))
        for subject in subjects if relay else ():
            until(partial(hears, subject), "it hears the others")
        crowds = [
            stack.enter_context(dashboards(subject, race_id, watching, updates=load.count))
            for subject in (subjects if watching else ())
        ]
        press = stack.enter_context(publisher(site, race_id, load))
        began = [subject.cpu_s() for subject in subjects]
        press.go()
        published = press.finish(load.within_s)
        committed = site.committed("daemon", race_id, published["began"], load.count, load.within_s)
        seen = [crowd.finish(GRACE_S) for crowd in crowds] or [{} for _ in subjects]
        spent = [subject.cpu_s() - before for subject, before in zip(subjects, began, strict=True)]
        taken = [subject.running.metrics()["tracking_messages_received_total"] for subject in subjects]
    return Ran(load.count, committed.last_s - published["began"], spent, taken, seen)
