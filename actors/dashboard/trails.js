// Where participants came from: a bounded trail each, and how trails are drawn.

import { EARTH_M, metres } from "./mercator.js";

const MOST = 240; // points of one trail
const DROPPED = 60; // points that go at once when it is full
const STEP = 5e-8; // of the world's width, about 2 m: nearer points are not kept
const GAP_MS = 180000; // of silence: nobody knows the way in between
const JUMP = 200 / 1000 / EARTH_M; // of the world's width in a millisecond: 200 m/s at the equator, a receiver's error
const RECENT = 0.4; // share of a trail that is drawn stronger

// Points `from` to `to` (exclusive) of the three lists, oldest first. Times are Unix ms, places Web Mercator.
export class Trail {
  times = [];
  xs = [];
  ys = [];
  from = 0;
  to = 0;
  #most;

  constructor(most = MOST) {
    this.#most = most;
  }

  add(time, x, y) {
    if (this.to) {
      const last = this.to - 1;
      if (time <= this.times[last]) return;
      if (Math.abs(x - this.xs[last]) + Math.abs(y - this.ys[last]) < STEP) return;
    }
    this.times.push(time);
    this.xs.push(x);
    this.ys.push(y);
    this.to = this.times.length;
    if (this.to > this.#most) this.#remove(0, DROPPED);
  }

  // What was later than `time` did not happen.
  cut(time) {
    const first = this.times.findIndex((each) => each >= time);
    if (first >= 0) this.#remove(first, this.to - first);
  }

  // Older points (a Trail), before those that are here.
  precede(older) {
    const start = this.to ? this.times[0] : Infinity;
    const end = older.times.findIndex((time) => time >= start);
    const use = (list) => (end < 0 ? list : list.slice(0, end));
    this.times = [...use(older.times), ...this.times];
    this.xs = [...use(older.xs), ...this.xs];
    this.ys = [...use(older.ys), ...this.ys];
    this.to = this.times.length;
  }

  get metres() {
    let sum = 0;
    for (let i = this.from + 1; i < this.to; i += 1) {
      if (isJoined(this, i)) sum += metres(this.xs[i - 1], this.ys[i - 1], this.xs[i], this.ys[i]);
    }
    return sum;
  }

  #remove(start, count) {
    for (const list of [this.times, this.xs, this.ys]) list.splice(start, count);
    this.to = this.times.length;
  }
}

// Whether somebody went from the point before to this one, as far as anybody can say.
export function isJoined({ times, xs, ys }, i) {
  const passed = times[i] - times[i - 1];
  return passed <= GAP_MS && Math.abs(xs[i] - xs[i - 1]) + Math.abs(ys[i] - ys[i - 1]) <= JUMP * passed;
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
