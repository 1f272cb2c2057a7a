// The page: one connection, one race at a time, shown as map, list and panel; live, or replayed.

import { serverNow, setServerTime } from "./clock.js";
import { Connection } from "./connection.js";
import { watchCover } from "./cover.js";
import { Filter } from "./filter.js";
import { Gaps } from "./gaps.js";
import { recent } from "./history.js";
import { List } from "./list.js";
import { MapView } from "./map.js";
import { readPalette, startTheme } from "./palette.js";
import { Panel } from "./panel.js";
import { Picker } from "./picker.js";
import { Race } from "./race.js";
import { Replay } from "./replay.js";
import { keep, kept, showInAddress, takeFromAddress } from "./session.js";
import { setting } from "./settings.js";
import { showNode, showState } from "./state.js";
import { age, setText } from "./text.js";

const RACES_EVERY_MS = 10000; // also the sign of life that is asked for
const FIRST_RACE_EVERY_MS = 1000; // while there is none: a demo's first race appears at once
const SUBSCRIBE_AGAIN_MS = 5000;
const NOTICE_MS = 8000;
const GAPS_EVERY_MS = 1000; // a look whether holes in trails may be asked for
const REFRESH_MS = 250; // of everything that is text; the map is drawn with each change
const TRAIL_MS = 600000; // of history behind each participant at first, less when there are many
const TRAIL_LONGEST_MS = 12 * 3600000; // when hardly any fix came in that time:
const TRAIL_FIXES = 5; // of each participant
const TRAIL_PAGES = 3; // of history
const TRAIL_PARTICIPANTS = 250; // with more there are no trails

const element = (id) => document.getElementById(id);

let race = null; // the live one, kept while another connection is made
let known = false; // its snapshot has come
let subscription = ""; // id of the request for it
const refused = new Set(); // ids of races that the server would not show: not to be chosen again by itself
let drawnVersion = -1;
let drawnAt = 0;
let noticeTimer = 0;
let told = { state: "waiting", text: "Starting" }; // of the connection
let noRaces = "Loading …"; // what is said where there is no race to show

const connection = new Connection(setting("path"), setting("auth") === "off", {
  state: (state, text, silence, why) => {
    told = { state, text, silence, why };
    showState(told, replay.race !== null);
  },
  opened,
  message: receive,
  tokenNeeded,
});
const tiles = { template: setting("tiles"), levelMost: Number(setting("tile-max-zoom")) };
const map = new MapView(element("map"), tiles, {
  choose: (id) => choose(id, false),
  followed: (yes) => panel.followed(yes),
});
const list = new List(element("list"), choose);
const filter = new Filter(element("filters"), element("search"), () => {
  map.setFilter(filter.accepts);
  list.setFilter(filter.accepts);
  refresh();
});
const panel = new Panel(connection, {
  loaded: () => map.redraw(),
  close: () => {
    choose("", false);
    element("list").focus();
  },
  follow: () => map.follow(!map.following),
});
const replay = new Replay(connection, {
  changed: () => map.redraw(),
  ended: () => {
    showRace();
    element("replay-open").focus();
  },
});
const gaps = new Gaps(connection);
const picker = new Picker(element("race"), select);

function opened() {
  refused.clear(); // perhaps another token
  connection.send("list_races", {});
  if (race) subscribe();
}

function subscribe() {
  subscription = connection.send("subscribe_race", { raceId: race.id });
}

function receive({ event, data, id }) {
  if (event === "races") return takeRaces(data.races);
  if (event === "error") return takeError(data, String(id ?? ""));
  if (data.raceId !== race?.id) return undefined; // left in the meantime
  if (event === "race_snapshot") takeSnapshot(data);
  else if (event === "position_update") race.take(data);
  else if (event === "batch_position_update") data.positions.forEach((position) => race.take(position));
  else if (event === "participant_stale") race.turnStale(data.participantId, data.lastTimestamp);
  if (!replay.race) map.redraw();
  return undefined;
}

function takeSnapshot(data) {
  setServerTime(data.serverTime);
  race.replace(data.positions);
  if (!known) void loadTrails(race);
  else if (!replay.race) void panel.load(); // what was missed meanwhile
  known = true;
  refresh();
  if (!replay.race) map.keepInView();
}

function takeRaces(races) {
  noRaces = races.length ? "Choose a race." : "No race yet. It appears here when the first position comes.";
  picker.show(races, race);
  const newest = races.find(({ raceId }) => !refused.has(raceId));
  if (!race && newest) select(newest.raceId);
  else if (!race) refresh();
}

function takeError({ code, message }, id) {
  if (id.startsWith("list_races")) {
    noRaces = "The list of races cannot be read now."; // asked again soon
    return;
  }
  if (id.startsWith("subscribe_race") && id !== subscription) return; // for a race that was left in the meantime
  notify(`${message} (${code})`);
  if (id !== subscription) return;
  const wanted = race;
  if (code === "forbidden_race" || code === "bad_request") {
    refused.add(race.id);
    select("");
  } else setTimeout(() => { if (race === wanted) subscribe(); }, SUBSCRIBE_AGAIN_MS);
}

function notify(text) {
  setText(element("notice"), text);
  element("notice").hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { element("notice").hidden = true; }, NOTICE_MS);
}

async function loadTrails(of) {
  const { size } = of.entries;
  if (!size || size > TRAIL_PARTICIPANTS) return;
  const span = Math.min(TRAIL_MS, (TRAIL_MS * 20) / size);
  const wanted = { span, longest: TRAIL_LONGEST_MS, least: TRAIL_FIXES * size, pagesMost: TRAIL_PAGES };
  try {
    const positions = await recent(connection, { raceId: of.id }, of.newest, wanted);
    of.fill(positions, of.entries.values());
    map.redraw();
  } catch {
    // No history now: trails grow from here.
  }
}

function select(id) {
  if (id === (race?.id ?? "")) return;
  if (race) connection.send("unsubscribe_race", { raceId: race.id });
  race = id ? new Race(id) : null;
  known = false;
  keep("race", id);
  showInAddress(id);
  replay.stop();
  filter.clear();
  picker.choose(race);
  showRace();
  if (race) subscribe();
}

// Live or replayed: what map, list and panel show.
function showRace() {
  const shown = replay.race || race;
  choose("", false);
  map.show(shown);
  list.show(shown);
  element("live").dataset.mode = replay.race ? "replay" : "live";
  document.title = race ? `${race.id} · Race tracking` : "Race tracking";
  showState(told, replay.race !== null);
  refresh();
}

function choose(id, withKeys) {
  const shown = replay.race || race;
  map.choose(id);
  list.choose(id);
  if (id) panel.open(shown, id, { live: !replay.race, focus: withKeys });
  else panel.close();
  const entry = shown?.entries.get(id);
  if (entry && withKeys) map.goNear(entry);
  else if (entry) map.reveal(entry);
}

function refresh() {
  const shown = replay.race || race;
  drawnVersion = shown?.version ?? -1;
  drawnAt = performance.now();
  list.update();
  panel.draw();
  const counts = shown?.counts() ?? { total: 0, stale: 0, statuses: [0, 0, 0, 0] };
  filter.showCounts(counts);
  picker.choose(race);
  const people = counts.total === 1 ? "1 participant" : `${counts.total} participants`;
  const newest = counts.total ? ` · newest ${age(serverNow() - shown.newest)}` : "";
  setText(element("summary"), filter.active ? `${list.length} of ${people}` : people + newest);
  setText(element("empty"), emptyText(counts.total));
  element("empty").hidden = list.length > 0;
}

function emptyText(total) {
  if (!race) return noRaces;
  if (!known && !replay.race) return "Loading …";
  if (!total) return replay.race ? "Nobody yet at this time." : "Nobody has been seen in this race yet.";
  return "Nobody matches.";
}

function tokenNeeded(reason) {
  replay.stop();
  if (race) {
    // Nothing of the race is left to be read by whoever has no token; the choice stays.
    race = new Race(race.id);
    known = false;
    showRace();
  }
  setText(element("token-reason"), reason);
  element("token").focus();
}

function hasNewAddress() {
  const given = takeFromAddress();
  if (given.token) connection.begin();
  if (given.race) select(given.race);
}

element("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keep("token", element("token").value.trim());
  element("token").value = "";
  connection.begin();
});
element("order").addEventListener("change", (event) => list.setOrder(event.target.value));
element("zoom-in").addEventListener("click", () => map.zoom(2));
element("zoom-out").addEventListener("click", () => map.zoom(0.5));
element("fit").addEventListener("click", () => map.fit());
element("replay-open").addEventListener("click", () => {
  if (replay.race) return replay.stop();
  if (!race) return undefined;
  void replay.start(race.id, race.newest);
  return showRace();
});
watchCover(element("ground"), ["tools", "panel", "replay"].map(element), (cover) => map.setCover(cover));
addEventListener("hashchange", hasNewAddress);
addEventListener("online", () => connection.hurry());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  connection.hurry();
  refresh();
});
setInterval(() => {
  const shown = replay.race || race;
  // At least once a second: ages go on.
  if (document.hidden || (shown?.version === drawnVersion && performance.now() - drawnAt < 990)) return;
  refresh();
}, REFRESH_MS);
setInterval(() => { if (!document.hidden) map.keepInView(); }, 1000);
setInterval(async () => {
  if (!known || replay.race || document.hidden) return;
  if (await gaps.fill(race, map.trailed, performance.now())) map.redraw();
}, GAPS_EVERY_MS);
setInterval(() => connection.send("list_races", {}), RACES_EVERY_MS);
setInterval(() => { if (!race && !document.hidden) connection.send("list_races", {}); }, FIRST_RACE_EVERY_MS);

if (tiles.template) {
  setText(element("credit"), `Map tiles: ${new URL(tiles.template).host}`);
  element("credit").hidden = false;
}
showNode(setting("node"));
startTheme(element("theme"), () => map.setPalette(readPalette()));
takeFromAddress();
if (kept("race")) select(kept("race"));
connection.begin();
