// One race as this page knows it: who is where. No drawing and no network.

import { near, project } from "./mercator.js";
import { notBefore } from "./clock.js";
import { Trail } from "./trails.js";

export const STATUSES = ["moving", "stopped", "finished", "disqualified"];
const GLIDE_MS = 450; // a marker takes so long to its next place
const DELAYS = 5; // of one participant are kept

export class Race {
  entries = new Map(); // participant id -> entry, see make()
  version = 0; // goes up with every change
  members = 0; // goes up when somebody comes or goes
  #reference = null; // x of the first place: the turn of the globe that this race is on

  constructor(id) {
    this.id = id;
  }

  // Who stays is changed in place, so that a snapshot after a reconnect or a resync does not flicker.
  replace(positions) {
    const present = new Set(positions.map((position) => position.participantId));
    for (const id of this.entries.keys()) {
      if (present.has(id)) continue;
      this.entries.delete(id);
      this.members += 1;
    }
    positions.forEach((position) => this.take(position));
    this.version += 1;
  }

  // The server sends positions in order; only a snapshot after a resync may go back, and takes the trail with it.
  take(position) {
    const time = Date.parse(position.timestamp);
    const [x, y] = this.place(position.latitude, position.longitude);
    const known = this.entries.get(position.participantId);
    const entry = known || this.make(position.participantId, x, y);
    if (time < entry.time) {
      entry.trail.cut(time);
      entry.track?.cut(time);
    }
    if (x !== entry.x || y !== entry.y) {
      const now = performance.now();
      [entry.fromX, entry.fromY] = whereNow(entry, now);
      [entry.x, entry.y, entry.since] = [x, y, now];
    }
    entry.latitude = position.latitude;
    entry.longitude = position.longitude;
    entry.time = time;
    entry.status = Math.max(0, STATUSES.indexOf(position.status));
    entry.stale = position.stale === true;
    entry.trail.add(time, x, y);
    entry.track?.add(time, x, y);
    entry.arrived = Date.parse(position.receivedAt);
    entry.delays = [...entry.delays, ...delaysOf([position])].slice(-DELAYS);
    notBefore(entry.arrived);
    this.version += 1;
  }

  turnStale(participantId, lastTimestamp) {
    const entry = this.entries.get(participantId);
    if (!entry || entry.time !== Date.parse(lastTimestamp)) return;
    entry.stale = true;
    this.version += 1;
  }

  place(latitude, longitude) {
    const [x, y] = project(latitude, longitude);
    if (this.#reference === null) this.#reference = x;
    return [near(x, this.#reference), y];
  }

  // History positions, oldest first: participant id -> [[Unix ms, x, y], ...].
  ways(positions) {
    const found = new Map();
    for (const { participantId, latitude, longitude, timestamp } of positions) {
      if (!found.has(participantId)) found.set(participantId, []);
      found.get(participantId).push([Date.parse(timestamp), ...this.place(latitude, longitude)]);
    }
    return found;
  }

  // Puts them into the trails of these entries. A resync may have gone back meanwhile: what is later did not happen.
  fill(positions, entries) {
    const ways = this.ways(positions);
    for (const entry of entries) {
      const points = (ways.get(entry.id) ?? []).filter(([time]) => time <= entry.time);
      if (points.length) entry.trail = entry.trail.filled(points);
    }
  }

  // Unix ms of the newest fix, 0 when there is none.
  get newest() {
    let newest = 0;
    for (const { time } of this.entries.values()) newest = Math.max(newest, time);
    return newest;
  }

  // {total, stale, statuses: [count of those that are not stale, ...]}
  counts() {
    const statuses = STATUSES.map(() => 0);
    let stale = 0;
    for (const entry of this.entries.values()) {
      if (entry.stale) stale += 1;
      else statuses[entry.status] += 1;
    }
    return { total: this.entries.size, stale, statuses };
  }

  // Somebody new at that place.
  make(id, x, y) {
    const entry = {
      id,
      latitude: 0, // degrees
      longitude: 0,
      x, // where it is, Web Mercator
      y,
      fromX: x, // where it was drawn at `since`, on its way to x, y
      fromY: y,
      since: 0, // performance.now()
      screenX: 0, // where it was drawn last, CSS pixels
      screenY: 0,
      time: -Infinity, // of the fix, Unix ms
      arrived: -Infinity, // the same fix, by the server's clock
      delays: [], // ms between the two, of the last few fixes
      status: 0, // index into STATUSES
      stale: false,
      trail: new Trail(),
      track: null, // a longer trail, while the panel shows this one
    };
    this.entries.set(id, entry);
    this.members += 1;
    return entry;
  }
}

// Milliseconds from its time to its arrival, of each of the last few positions.
export function delaysOf(positions) {
  return positions.slice(-DELAYS).map(({ timestamp, receivedAt }) => Date.parse(receivedAt) - Date.parse(timestamp));
}

const still = matchMedia("(prefers-reduced-motion: reduce)");

export function isGliding(entry, now) {
  return now - entry.since < GLIDE_MS && !still.matches;
}

export function whereNow(entry, now) {
  if (!isGliding(entry, now)) return [entry.x, entry.y];
  const share = (now - entry.since) / GLIDE_MS;
  return [entry.fromX + (entry.x - entry.fromX) * share, entry.fromY + (entry.y - entry.fromY) * share];
}
