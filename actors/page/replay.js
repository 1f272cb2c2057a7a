// The past of a race, played again: a slider, a speed, and pages of history fetched ahead of what is shown.

import { beginOf } from "./begin.js";
import { pretend, serverNow } from "./clock.js";
import { historyPage } from "./history.js";
import { Race } from "./race.js";
import { Recording } from "./recording.js";
import { dateAndTime, setText } from "./text.js";

const FIXES_AT_ONCE = 100000; // as many are loaded without a look at how far the play is
const FIXES_MOST = 300000; // in memory
const AHEAD_S = 60; // of watching: as much is loaded ahead
const BEHIND_MS = 600000; // of race time: kept, and loaded before a moment that is jumped to
const WAIT_MS = 250;
const STEP_MOST_MS = 500; // of watching: a tab in the background is not drawn, and its replay stands still
const AGAIN_MS = 2000; // after a failure
const WATCHED_S = 60; // the speed at first: the whole race takes about so long

const element = (id) => document.getElementById(id);
const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

export class Replay {
  race = null; // null: nothing is replayed
  #connection;
  #told; // {changed(), ended()}
  #recording = null;
  #begin = 0; // of the race, Unix ms
  #end = 0;
  #time = 0; // that is shown
  #loadedFrom = 0;
  #loadedTo = 0;
  #load = 0; // number of the load that counts
  #playing = false;
  #drawnAt = 0; // performance.now() of the last step

  constructor(connection, told) {
    this.#connection = connection;
    this.#told = told;
    element("replay-play").addEventListener("click", () => this.#play(!this.#playing));
    element("replay-close").addEventListener("click", () => this.stop());
    element("replay-time").addEventListener("input", (event) => this.#seek(this.#begin + 1000 * event.target.value));
  }

  get #speed() {
    return Number(element("replay-speed").value);
  }

  async start(raceId, end) {
    this.race = new Race(raceId);
    this.#recording = new Recording(this.race);
    const mine = (this.#load += 1);
    element("replay").hidden = false;
    this.#enable(false);
    setText(element("replay-clock"), "Loading …");
    let begin = null;
    try {
      begin = await beginOf(this.#connection, raceId, end || serverNow()); // nobody is live
    } catch {
      // Told below.
    }
    if (mine !== this.#load) return;
    if (begin === null) {
      setText(element("replay-clock"), "No history can be read now");
      return;
    }
    this.#enable(true);
    this.#begin = begin;
    this.#end = Math.max(end, this.#begin + 1000);
    const slider = element("replay-time");
    slider.max = Math.ceil((this.#end - this.#begin) / 1000);
    const fitting = (this.#end - this.#begin) / 1000 / WATCHED_S;
    const speeds = [...element("replay-speed").options].map((option) => Number(option.value));
    element("replay-speed").value = speeds.reduce((best, each) => (each <= fitting ? each : best), speeds[0]);
    this.#seek(this.#begin);
    this.#play(true);
    element("replay-play").focus();
  }

  stop() {
    if (!this.race) return;
    this.#load += 1;
    this.#playing = false;
    this.race = this.#recording = null;
    pretend(null);
    element("replay").hidden = true;
    this.#told.ended();
  }

  // Nothing can be played before the race's first moment is known.
  #enable(yes) {
    for (const id of ["replay-play", "replay-time", "replay-speed"]) element(id).disabled = !yes;
  }

  #play(yes) {
    if (yes && this.#time >= this.#end) this.#seek(this.#begin);
    const begins = yes && !this.#playing;
    this.#playing = yes;
    element("replay-play").dataset.playing = String(yes);
    element("replay-play").setAttribute("aria-label", yes ? "Pause" : "Play");
    this.#drawnAt = performance.now();
    if (begins) requestAnimationFrame((now) => this.#step(now));
  }

  #step(now) {
    if (!this.#playing) return;
    const passed = Math.min(STEP_MOST_MS, Math.max(0, now - this.#drawnAt));
    this.#drawnAt = now;
    this.#time = Math.min(this.#time + passed * this.#speed, this.#loadedTo, this.#end);
    this.#show();
    if (this.#time >= this.#end) this.#play(false);
    else requestAnimationFrame((next) => this.#step(next));
  }

  #seek(time) {
    this.#time = time;
    if (time < this.#loadedFrom || time > this.#loadedTo || !this.#recording.fixes) void this.#fetch(time - BEHIND_MS);
    this.#show();
  }

  #show() {
    this.#recording.show(this.#time);
    pretend(this.#time);
    const slider = element("replay-time");
    slider.value = Math.round((this.#time - this.#begin) / 1000);
    const waits = this.#time >= this.#loadedTo && this.#time < this.#end;
    const text = waits ? "Loading …" : dateAndTime(this.#time);
    setText(element("replay-clock"), text);
    slider.setAttribute("aria-valuetext", text);
    this.#told.changed();
  }

  // Pages from `from` on, as long as nobody jumps elsewhere.
  async #fetch(from) {
    const mine = (this.#load += 1);
    this.#recording.clear();
    this.#loadedFrom = Math.max(from, this.#begin);
    this.#loadedTo = this.#loadedFrom;
    const query = { raceId: this.race.id, from: new Date(this.#loadedFrom).toISOString() };
    let cursor = null;
    do {
      while (this.#recording.fixes > FIXES_AT_ONCE && this.#loadedTo > this.#time + AHEAD_S * 1000 * this.#speed) {
        await pause(WAIT_MS);
        if (mine !== this.#load) return;
      }
      let page = null;
      try {
        page = await historyPage(this.#connection, cursor ? { ...query, cursor } : query);
      } catch {
        await pause(AGAIN_MS);
      }
      if (mine !== this.#load) return;
      if (!page) continue;
      this.#recording.add(page.positions);
      cursor = page.nextCursor;
      this.#loadedTo = cursor ? page.times.at(-1) : Infinity;
      this.#forget();
      this.#show();
    } while (this.#loadedTo < Infinity);
  }

  #forget() {
    if (this.#recording.fixes <= FIXES_MOST || this.#time - BEHIND_MS <= this.#loadedFrom) return;
    this.#loadedFrom = this.#time - BEHIND_MS;
    this.#recording.forget(this.#loadedFrom);
  }
}
