// One participant in detail: where, how fast, since when, and the way of the last half hour.

import { serverNow } from "./clock.js";
import { history } from "./history.js";
import { metres } from "./mercator.js";
import { STATUSES } from "./race.js";
import { age, coordinates, dateAndTime, length, setText } from "./text.js";
import { isJoined, Trail } from "./trails.js";

const TRACK_MS = 30 * 60 * 1000;
const TRACK_PAGES = 3;
const TRACK_MOST = 4000; // points
const SPEED_MS = 20000; // over which a speed is taken
const LEAST_SPEEDS = 5; // for a chart: fewer are no more than a line
const SPEED_GAP_MS = 120000; // a longer silence says nothing about speed

const element = (id) => document.getElementById(id);

export class Panel {
  #connection;
  #loaded; // called when there is more to draw
  #race = null;
  #id = "";
  #note = ""; // about the track

  constructor(connection, told) {
    this.#connection = connection;
    this.#loaded = told.loaded;
    element("panel-close").addEventListener("click", () => told.close());
    element("follow").addEventListener("click", () => told.follow());
    element("panel").addEventListener("keydown", (event) => {
      if (event.key === "Escape") told.close();
    });
  }

  get entry() {
    return this.#race?.entries.get(this.#id);
  }

  open(race, id, { live, focus }) {
    this.close();
    this.#race = race;
    this.#id = id;
    setText(element("panel-name"), id);
    if (live) void this.load();
    this.draw();
    if (focus) element("panel-name").focus();
  }

  close() {
    if (this.entry) this.entry.track = null;
    this.#race = null;
    this.#id = "";
    element("panel").hidden = true;
  }

  followed(yes) {
    element("follow").setAttribute("aria-pressed", String(yes));
    setText(element("follow"), yes ? "Following" : "Follow");
  }

  // The recent track from history; what comes meanwhile is added by the race. Again after a reconnect: it fills gaps.
  async load() {
    const entry = this.entry;
    const race = this.#race;
    if (!entry) return;
    entry.track ||= new Trail(TRACK_MOST);
    this.#note = "loading …";
    let positions = [];
    let note = "";
    try {
      const from = new Date(entry.time - TRACK_MS).toISOString();
      positions = await history(this.#connection, { raceId: race.id, participantId: entry.id, from }, TRACK_PAGES);
    } catch {
      note = "cannot be read now";
    }
    if (this.entry !== entry || !entry.track) return;
    this.#note = note;
    const track = race.trails(positions, TRACK_MOST).get(entry.id);
    if (track) {
      // History is complete up to its end; what is newer came live.
      const end = track.times[track.to - 1];
      const kept = entry.track;
      entry.track = track;
      kept.times.forEach((time, i) => { if (time > end) track.add(time, kept.xs[i], kept.ys[i]); });
    }
    this.draw();
    this.#loaded();
  }

  draw() {
    const entry = this.entry;
    element("panel").hidden = !entry; // gone with a resync, or not there yet at this time of a replay
    if (!entry) return;
    element("panel").dataset.status = STATUSES[entry.status];
    element("panel").classList.toggle("stale", entry.stale);
    setText(element("panel-status"), entry.stale ? `${STATUSES[entry.status]}, stale` : STATUSES[entry.status]);
    setText(element("panel-age"), age(serverNow() - entry.time));
    element("panel-age").title = dateAndTime(entry.time);
    setText(element("panel-place"), coordinates(entry.latitude, entry.longitude));
    const track = entry.track || entry.trail;
    const speeds = speedsOf(track);
    const now = entry.status === 0 && !entry.stale ? speeds.at(-1) : undefined;
    setText(element("panel-speed"), now === undefined ? "–" : `${(now * 3.6).toFixed(1)} km/h`);
    setText(element("panel-track"), this.#note || described(track));
    drawSpeeds(element("panel-chart"), speeds);
  }
}

function described(track) {
  if (track.to - track.from < 2) return "no track yet";
  const minutes = Math.max(1, Math.round((track.times[track.to - 1] - track.times[track.from]) / 60000));
  return `${length(track.metres)} in ${minutes} min`;
}

// Metres a second, along the track.
function speedsOf(track) {
  const { times, xs, ys, from, to } = track;
  const speeds = [];
  for (let i = from, start = from; i < to; i += 1) {
    const passed = times[i] - times[start];
    if (passed < SPEED_MS) continue;
    if (passed < SPEED_GAP_MS) {
      let way = 0;
      for (let k = start + 1; k <= i; k += 1) if (isJoined(track, k)) way += metres(xs[k - 1], ys[k - 1], xs[k], ys[k]);
      speeds.push((way / passed) * 1000);
    }
    start = i;
  }
  return speeds;
}

function drawSpeeds(canvas, speeds) {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  canvas.hidden = element("panel-chart-words").hidden = speeds.length < LEAST_SPEEDS;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.hidden || !width) return;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const most = Math.max(...speeds, 1);
  const words = `at most ${(most * 3.6).toFixed(0)} km/h`;
  canvas.setAttribute("aria-label", `Speed over the recent track, ${words}`);
  setText(element("panel-chart-words"), `Speed, ${words}`);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.strokeStyle = context.fillStyle = getComputedStyle(canvas).color;
  context.beginPath();
  speeds.forEach((speed, i) => {
    context.lineTo((i / (speeds.length - 1)) * width, height - 2 - (speed / most) * (height - 4));
  });
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.stroke();
  context.lineTo(width, height);
  context.lineTo(0, height);
  context.globalAlpha = 0.15;
  context.fill();
}
