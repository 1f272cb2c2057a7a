// One participant in detail: where, how fast, since when, and the way of the last half hour.

import { serverNow } from "./clock.js";
import { history, recent } from "./history.js";
import { delaysOf, STATUSES } from "./race.js";
import { age, coordinates, dateAndTime, length, setText, span } from "./text.js";
import { Trail, wayOf } from "./trails.js";

const TRACK_MS = 30 * 60 * 1000;
const TRACK_FIXES = 20; // of who sends seldom that is longer: so many fixes,
const TRACK_LONGEST_MS = 24 * 3600 * 1000; // if there are some in as long
const TRACK_PAGES = 3;
const TRACK_MOST = 4000; // points
const AGAIN_MS = 15000; // what came late stands in history only: a hole in the track is looked for there so often
const SPEED_MS = 20000; // over which a speed is taken
const LEAST_SPEEDS = 5; // for a chart: fewer are no more than a line
const SPEED_GAP_MS = 120000; // a longer silence says nothing about speed, but of who sends seldom
const DELAY_MS = 60000; // fixes that always arrive so late: a slow way, or a clock that is behind
const DELAYS_LEAST = 3; // that say "always"
const DELAYS_SPREAD = 0.25; // of the shortest one: what differs more is a backlog

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
    setInterval(() => void this.#fill(), AGAIN_MS);
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
  load() {
    const entry = this.entry;
    if (!entry) return undefined;
    if (!entry.track) {
      entry.track = new Trail(TRACK_MOST);
      this.#note = "loading …";
    }
    const wanted = { span: TRACK_MS, longest: TRACK_LONGEST_MS, least: TRACK_FIXES, pagesMost: TRACK_PAGES };
    return this.#read(entry, -Infinity, (query) => recent(this.#connection, query, entry.time, wanted));
  }

  // What arrives late goes to history only and nobody is told: a hole in the track is looked for there now and then.
  #fill() {
    const track = this.entry?.track;
    if (!track || document.hidden) return undefined;
    const { hole } = track;
    if (this.#note || track.to < 2) return this.load();
    if (hole < 0) return undefined;
    const since = track.times[hole - 1];
    const query = { from: new Date(since).toISOString() };
    return this.#read(this.entry, since, async (whose) =>
      (await history(this.#connection, { ...whose, ...query }, TRACK_PAGES)).positions);
  }

  // `ask` answers with what history has since then: it replaces what the track has of the same time.
  async #read(entry, since, ask) {
    const race = this.#race;
    let positions = [];
    let note = "";
    try {
      positions = await ask({ raceId: race.id, participantId: entry.id });
    } catch {
      note = "cannot be read now";
    }
    if (this.entry !== entry || !entry.track) return;
    this.#note = note;
    if (positions.length) {
      entry.track = entry.track.filled(race.ways(positions).get(entry.id), since);
      entry.delays = delaysOf(positions);
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
    entry.track?.keep(TRACK_MS, TRACK_FIXES);
    const speeds = speedsOf(track);
    const moves = entry.status === 0 && (!entry.stale || serverNow() - entry.time <= track.pace.late);
    const now = moves ? speeds.at(-1) : undefined;
    setText(element("panel-speed"), now === undefined ? "–" : `${(now * 3.6).toFixed(1)} km/h`);
    setText(element("panel-track"), this.#note || described(track));
    const delay = delayOf(entry);
    element("panel-delay").parentElement.hidden = !delay;
    setText(element("panel-delay"), delay);
    drawSpeeds(element("panel-chart"), speeds);
  }
}

function described(track) {
  if (track.to - track.from < 2) return "no track yet";
  return `${length(wayOf(track))} in ${span(track.times[track.to - 1] - track.times[track.from])}`;
}

// Of fixes that come, but always as late: "" when they do not.
function delayOf({ delays, arrived, track }) {
  const [least, most] = [Math.min(...delays), Math.max(...delays)];
  const always = delays.length >= DELAYS_LEAST && least >= DELAY_MS && most - least <= DELAYS_SPREAD * least;
  const comes = track && serverNow() - arrived <= track.pace.patience(SPEED_GAP_MS);
  return always && comes ? `${span(least)}: clock behind?` : "";
}

// Metres a second, along the track.
function speedsOf(track) {
  const { times, from, to, pace } = track;
  const speeds = [];
  for (let i = from, start = from; i < to; i += 1) {
    const passed = times[i] - times[start];
    if (passed < SPEED_MS) continue;
    if (passed < pace.patience(SPEED_GAP_MS)) speeds.push((wayOf(track, start, i + 1) / passed) * 1000);
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
