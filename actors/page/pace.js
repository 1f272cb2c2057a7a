// How often somebody sends. Trackers send every second or every twenty minutes: what is a hole in the way of the one is
// the other's usual pace.

import { STALE_MS } from "./settings.js";

const LAST = 15; // intervals that count: the pace may change on the way
const PATIENCE = 3; // paces without a fix: one or two may be lost

export class Pace {
  #intervals = []; // ms between two fixes, the last ones
  #usual = -1; // the middle one of them; -1 = to be found again

  add(interval) {
    this.#intervals.push(interval);
    if (this.#intervals.length > LAST) this.#intervals.shift();
    this.#usual = -1;
  }

  // One interval says nothing: it may be a silence.
  get isKnown() {
    return this.#intervals.length > 1;
  }

  // Milliseconds; 0 while nobody knows.
  get usual() {
    if (this.#usual < 0) {
      const sorted = [...this.#intervals].sort((a, b) => a - b);
      // Of two the shorter one: the other may be a silence.
      this.#usual = sorted[(sorted.length - 1) >> 1] ?? 0;
    }
    return this.#usual;
  }

  // A silence that is longer says nothing of the way in between; `least` is one for whoever sends often.
  patience(least) {
    return Math.max(least, STALE_MS, this.late);
  }

  // Whoever is silent for longer has missed a fix or two.
  get late() {
    return PATIENCE * this.usual;
  }
}
