// A part of a race's history in memory, and where everybody was at a moment of it.

import { latitudeOf, longitudeOf } from "./mercator.js";
import { Pace } from "./pace.js";
import { STATUSES } from "./race.js";

const BRIDGED_MS = 120000; // between two fixes that are nearer in time the way is filled in; else the last one goes stale
const TRAIL_MS = 300000; // behind each participant,
const TRAIL_PACES = 10; // or so many fixes of who sends seldom

export class Recording {
  fixes = 0;
  #race;
  #ways = new Map(); // participant id -> {times, xs, ys, statuses, pace, at}, oldest first; `at`: index of the last time

  constructor(race) {
    this.#race = race;
  }

  clear() {
    this.#ways.clear();
    this.#race.entries.clear();
    this.#race.members += 1;
    this.fixes = 0;
  }

  // Positions of get_history, which come in order of their time.
  add(positions) {
    for (const { participantId, latitude, longitude, timestamp, status } of positions) {
      let way = this.#ways.get(participantId);
      if (!way) this.#ways.set(participantId, (way = { times: [], xs: [], ys: [], statuses: [], pace: new Pace(), at: 0 }));
      const [x, y] = this.#race.place(latitude, longitude);
      const time = Date.parse(timestamp);
      if (way.times.length) way.pace.add(time - way.times.at(-1));
      way.times.push(time);
      way.xs.push(x);
      way.ys.push(y);
      way.statuses.push(Math.max(0, STATUSES.indexOf(status)));
    }
    this.fixes += positions.length;
  }

  // What was before `time` is no longer needed.
  forget(time) {
    for (const way of this.#ways.values()) {
      const gone = Math.max(0, indexAt(way.times, time, 0));
      for (const list of [way.times, way.xs, way.ys, way.statuses]) list.splice(0, gone);
      way.at = 0;
      this.fixes -= gone;
    }
  }

  // Puts everybody into the race as they were at `time`.
  show(time) {
    const race = this.#race;
    for (const [id, way] of this.#ways) {
      const at = indexAt(way.times, time, way.at);
      if (at < 0) {
        if (race.entries.delete(id)) race.members += 1;
        continue;
      }
      way.at = at;
      this.#put(race.entries.get(id) || race.make(id, way.xs[at], way.ys[at]), way, at, time);
    }
    race.version += 1;
  }

  #put(entry, way, at, time) {
    const { times, xs, ys, statuses, pace } = way;
    const bridged = pace.patience(BRIDGED_MS);
    const gap = at + 1 < times.length ? times[at + 1] - times[at] : Infinity;
    const share = gap <= bridged ? (time - times[at]) / gap : 0;
    entry.x = share ? xs[at] + (xs[at + 1] - xs[at]) * share : xs[at];
    entry.y = share ? ys[at] + (ys[at + 1] - ys[at]) * share : ys[at];
    entry.latitude = latitudeOf(entry.y);
    entry.longitude = longitudeOf(entry.x);
    entry.time = times[at];
    entry.status = statuses[at];
    entry.stale = gap > bridged && entry.status < 2 && time - times[at] > bridged;
    entry.since = 0;
    const from = Math.max(0, indexAt(times, time - Math.max(TRAIL_MS, TRAIL_PACES * pace.usual), 0));
    entry.trail = { times, xs, ys, pace, from, to: at + 1 };
  }
}

// Index of the last of `times` that is not after `time`, -1 when all are; `hint` is where it was before.
function indexAt(times, time, hint) {
  let low = hint < times.length && times[hint] <= time ? hint : 0;
  if (times[low] > time || !times.length) return -1;
  // Mostly it is the same or the next one.
  if (low + 1 >= times.length || times[low + 1] > time) return low;
  let high = times.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (times[middle] <= time) low = middle;
    else high = middle;
  }
  return low;
}
