// Holes in the trails that are drawn. What arrives late goes to history only and nobody is told: it is looked for there,
// one page at a time for everybody, and only while nothing else is asked of history.

import { historyPage, isIdle } from "./history.js";

const EVERY_MS = 15000; // from one page to the next
const LATER_MS = 30000; // what history did not have is asked for once more, so much later:
const TRIES = 2; // then somebody was silent
const BEFORE_MS = 600000; // of whom nobody knows how often they send: so long before the first fix

export class Gaps {
  #connection;
  #lookedAt = -Infinity;
  #tried = new Map(); // name of a gap -> {tries, at}; of those that are there still
  #dense = false; // the last page of several participants ended too early: one of them is next

  constructor(connection) {
    this.#connection = connection;
  }

  // `entries`: whose trails are drawn; `now`: performance.now(). Whether there is more to draw.
  async fill(race, entries, now) {
    if (now - this.#lookedAt < EVERY_MS || !isIdle()) return false;
    this.#lookedAt = now;
    const due = this.#due(race, entries, now);
    if (!due.length) return false;
    const longest = due.reduce((best, gap) => (gap.to - gap.from > best.to - best.from ? gap : best));
    const alone = this.#dense || due.every(({ entry }) => entry === longest.entry);
    const wanted = alone ? due.filter(({ entry }) => entry === longest.entry) : due;
    const end = Math.max(...wanted.map(({ to }) => to));
    const query = {
      raceId: race.id,
      from: new Date(Math.min(...wanted.map(({ from }) => from))).toISOString(),
      to: new Date(end).toISOString(),
      ...(alone && { participantId: longest.entry.id }),
    };
    let page = null;
    try {
      page = await historyPage(this.#connection, query);
    } catch {
      return false; // no connection, or no history now: the next time
    }
    this.#dense = !alone && page.nextCursor !== null;
    const reached = page.nextCursor ? page.times.at(-1) : end;
    for (const { name, from } of wanted) {
      if (from <= reached) this.#tried.set(name, { tries: (this.#tried.get(name)?.tries ?? 0) + 1, at: now });
    }
    race.fill(page.positions, new Set(wanted.map(({ entry }) => entry)));
    return true;
  }

  #due(race, entries, now) {
    // The panel fills the track that is drawn instead; and who is drawn may be of the race that was shown before.
    const gaps = entries.filter((entry) => !entry.track && race.entries.get(entry.id) === entry).flatMap(gapsOf);
    const tried = new Map(gaps.map(({ name }) => [name, this.#tried.get(name) ?? { tries: 0, at: -Infinity }]));
    this.#tried = tried;
    return gaps.filter(({ name }) => tried.get(name).tries < TRIES && now - tried.get(name).at >= LATER_MS);
  }
}

// [{name, entry, from, to}], Unix ms, `to` is exclusive.
function gapsOf(entry) {
  const { times, to, holes, pace } = entry.trail;
  const gap = (from, end) => ({ name: `${entry.id} ${from} ${end}`, entry, from, to: end });
  if (!pace.isKnown) return to ? [gap(times[0] - BEFORE_MS, times[to - 1])] : [];
  return holes.map((i) => gap(times[i - 1], times[i]));
}
