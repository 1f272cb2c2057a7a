// Where participants came from: a bounded trail each, and how trails are drawn.

import { EARTH_M, metres } from "./mercator.js";
import { Pace } from "./pace.js";

const MOST = 240; // points of one trail
const DROPPED = 60; // points that go at once when it is full
const STEP = 5e-8; // of the world's width, about 2 m: points that are nearer are one
const GAP_MS = 180000; // of silence: nobody knows the way in between; longer for who sends seldom
const JUMP = 200 / 1000 / EARTH_M; // of the world's width in a millisecond: 200 m/s at the equator, a receiver's error
const RECENT = 0.4; // share of a trail that is drawn stronger

// Points `from` to `to` (exclusive) of the three lists, oldest first. Times are Unix ms, places Web Mercator.
export class Trail {
  times = [];
  xs = [];
  ys = [];
  from = 0;
  to = 0;
  pace = new Pace();
  #most;

  constructor(most = MOST) {
    this.#most = most;
  }

  add(time, x, y) {
    const silence = this.to ? time - this.times[this.to - 1] : Infinity;
    if (silence <= 0) return;
    if (this.to) this.pace.add(silence);
    const at = silence <= this.pace.late && this.#goesOn(x, y) ? this.to - 1 : this.to;
    [this.times[at], this.xs[at], this.ys[at]] = [time, x, y];
    this.to = at + 1;
    if (this.to > this.#most) this.#remove(0, DROPPED);
  }

  // What was later than `time` did not happen.
  cut(time) {
    const first = this.times.findIndex((each) => each >= time);
    if (first >= 0) this.#remove(first, this.to - first);
  }

  // A trail of this one and of what history has since then: [time, x, y], oldest first, which is complete up to its end;
  // what is newer came live.
  filled(points, since = points[0][0]) {
    const trail = new Trail(this.#most);
    const end = points.at(-1)[0];
    this.times.forEach((time, i) => { if (time < since) trail.add(time, this.xs[i], this.ys[i]); });
    points.forEach((point) => trail.add(...point));
    this.times.forEach((time, i) => { if (time > end) trail.add(time, this.xs[i], this.ys[i]); });
    return trail;
  }

  // From here on counts what is at most so many ms old, or is among the last `least` points.
  keep(ms, least) {
    const since = this.times[this.to - 1] - ms;
    this.from = Math.max(0, Math.min(this.times.findIndex((time) => time >= since), this.to - least));
  }

  // Indices of the points that are elsewhere after a silence.
  get holes() {
    const found = [];
    for (let i = this.from + 1; i < this.to; i += 1) {
      if (this.times[i] - this.times[i - 1] > this.pace.late && !this.#isNear(i, i - 1)) found.push(i);
    }
    return found;
  }

  // The first of them, -1 when there is none.
  get hole() {
    return this.holes[0] ?? -1;
  }

  get metres() {
    return wayOf(this);
  }

  // Whether the last point is on the way to this place: a small step, or a rest, which is a point at each of its ends.
  #goesOn(x, y) {
    const last = this.to - 1;
    if (last < 1 || !this.#isNear(last, last - 1)) return false;
    const rests = this.times[last] - this.times[last - 1] > this.pace.late;
    return !rests || Math.abs(x - this.xs[last - 1]) + Math.abs(y - this.ys[last - 1]) < STEP;
  }

  #isNear(i, k) {
    return Math.abs(this.xs[i] - this.xs[k]) + Math.abs(this.ys[i] - this.ys[k]) < STEP;
  }

  #remove(start, count) {
    for (const list of [this.times, this.xs, this.ys]) list.splice(start, count);
    this.to = this.times.length;
  }
}

// Whether somebody went from the point before to this one, as far as anybody can say.
export function isJoined({ times, xs, ys, pace }, i) {
  const passed = times[i] - times[i - 1];
  return passed <= pace.patience(GAP_MS) && Math.abs(xs[i] - xs[i - 1]) + Math.abs(ys[i] - ys[i - 1]) <= JUMP * passed;
}

// Metres from point to point.
export function wayOf(trail, from = trail.from, to = trail.to) {
  const { xs, ys } = trail;
  let sum = 0;
  for (let i = from + 1; i < to; i += 1) {
    if (isJoined(trail, i)) sum += metres(xs[i - 1], ys[i - 1], xs[i], ys[i]);
  }
  return sum;
}

// One path for each colour and strength, not one for each participant.
export function drawTrails(context, camera, entries, colours, { width, alpha }) {
  context.lineWidth = width;
  context.lineJoin = "round";
  context.lineCap = "round";
  colours.forEach((colour, status) => {
    for (const recent of [false, true]) {
      context.beginPath();
      for (const entry of entries) {
        if (entry.status === status) trace(context, camera, entry, recent);
      }
      // Who is done is past.
      context.globalAlpha = alpha * (recent ? 1 : 0.45) * (status < 2 ? 1 : 0.5);
      context.strokeStyle = colour;
      context.stroke();
    }
  });
  context.globalAlpha = 1;
}

function trace(context, camera, entry, recent) {
  const trail = entry.track || entry.trail;
  const { xs, ys, from, to } = trail;
  const middle = Math.floor(to - (to - from) * RECENT);
  const start = recent ? Math.max(from, middle - 1) : from;
  const end = recent ? to : middle;
  if (end <= start) return;
  const left = camera.left;
  const top = camera.top;
  const scale = camera.scale;
  context.moveTo((xs[start] - left) * scale, (ys[start] - top) * scale);
  for (let i = start + 1; i < end; i += 1) {
    const [x, y] = [(xs[i] - left) * scale, (ys[i] - top) * scale];
    if (isJoined(trail, i)) context.lineTo(x, y);
    else context.moveTo(x, y);
  }
  if (recent) context.lineTo(entry.screenX, entry.screenY);
}
