"use strict";

// One page, one WebSocket, one race at a time. Everything from outside goes through textContent.

const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 15000;
const RACES_EVERY_MS = 10000; // also the sign of life that is asked for
const SILENCE_MS = 15000; // no answer for so long: the connection is dead, whatever the browser believes
const NOTICE_MS = 8000;
const TOKEN_EXPIRED = 4401;
const STATUSES = ["moving", "stopped", "finished", "disqualified"];
const TOKEN = /^[\w.~+-]+$/;

const element = (id) => document.getElementById(id);
const setting = (name) => document.querySelector(`meta[name="tracking-${name}"]`).content;

const open = setting("auth") === "off";
let socket = null;
let retryTimer = 0;
let retries = 0;
let requests = 0;
let askedAt = 0; // when an answer was asked for that has not come; 0 = none is due
let noticeTimer = 0;
let clockAheadMs = 0; // this browser's clock minus the server's
let raceId = kept("race") || "";
let shown = ""; // the race that the table shows
let positions = new Map(); // participant id -> {position, row, cells}
let drawing = false;
const changed = new Set(); // participant ids to draw
const collator = new Intl.Collator(undefined, { numeric: true });

// --- what this tab remembers (a browser may forbid it: then it lasts as long as the page) ---

const memory = new Map();

function kept(name) {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return memory.get(name) || null;
  }
}

function keep(name, value) {
  try {
    if (value) sessionStorage.setItem(name, value);
    else sessionStorage.removeItem(name);
  } catch {
    if (value) memory.set(name, value);
    else memory.delete(name);
  }
}

function takeTokenFromAddress() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!found) return false;
  keep("token", found);
  history.replaceState(null, "", location.pathname + location.search);
  return true;
}

// --- connection ---

function connect() {
  clearTimeout(retryTimer);
  leave();
  const token = kept("token");
  if (!open && !token) return askForToken("");
  if (token && !TOKEN.test(token)) return askForToken("This is not a token.");
  element("token-form").hidden = true;
  element("live").hidden = false;
  say("waiting", retries ? "Connecting again" : "Connecting");
  const url = new URL(setting("path"), location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  let opened = false;
  socket = new WebSocket(url, token ? ["tracking.v1", `bearer.${token}`] : ["tracking.v1"]);
  socket.onopen = () => {
    opened = true;
    say("live", "Live");
    askForRaces();
    if (raceId) subscribe();
  };
  socket.onmessage = (message) => {
    askedAt = 0;
    retries = 0;
    receive(JSON.parse(message.data));
  };
  socket.onclose = (close) => {
    if (close.code === TOKEN_EXPIRED) askForToken("The token has expired.");
    else if (opened) retry();
    else findOutWhy(token);
  };
}

function leave() {
  if (!socket) return;
  socket.onopen = socket.onmessage = socket.onclose = null;
  socket.close();
  socket = null;
  askedAt = 0;
}

// A browser does not tell a refused handshake from a server that is away; the HTTP API does.
async function findOutWhy(token) {
  const failed = socket;
  let status = 0;
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    status = (await fetch("api/races", { headers, cache: "no-store" })).status;
  } catch {
    // The server is away: try again later.
  }
  if (socket !== failed) return;
  if (status === 401) askForToken("The server did not accept the token.");
  else retry();
}

function retry() {
  leave();
  const most = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** retries);
  retries += 1;
  // Jitter: after a restart of the server not every page comes in the same moment.
  const wait = most * (0.5 + Math.random() / 2);
  say("waiting", "Connection lost, trying again");
  clearTimeout(retryTimer);
  retryTimer = setTimeout(connect, wait);
}

function hurry() {
  if (!socket && element("token-form").hidden && !document.hidden) connect();
}

function askForToken(reason) {
  clearTimeout(retryTimer);
  leave();
  if (reason) keep("token", "");
  clearTable();
  element("live").hidden = true;
  element("token-form").hidden = false;
  element("token-reason").textContent = reason;
  element("token").focus();
  say("refused", "Not connected");
}

function send(event, data) {
  if (!socket || socket.readyState !== WebSocket.OPEN) return;
  requests += 1;
  socket.send(JSON.stringify({ event, data, id: `${event}-${requests}` }));
  if (!askedAt) askedAt = Date.now();
}

function askForRaces() {
  if (askedAt && Date.now() - askedAt > SILENCE_MS) retry();
  else send("list_races", {});
}

function subscribe() {
  send("subscribe_race", { raceId });
}

// --- messages ---

function receive({ event, data, id }) {
  const mine = data.raceId === raceId;
  if (event === "races") showRaces(data.races);
  else if (event === "race_snapshot" && mine) takeSnapshot(data);
  else if (event === "position_update" && mine) takePosition(data);
  else if (event === "batch_position_update" && mine) data.positions.forEach(takePosition);
  else if (event === "participant_stale" && mine) takeStale(data);
  else if (event === "error") takeError(data, String(id || ""));
}

function takeSnapshot(data) {
  clockAheadMs = Date.now() - Date.parse(data.serverTime);
  const now = new Set(data.positions.map((position) => position.participantId));
  // Rows that stay are kept as they are: a resync does not flicker.
  if (shown !== data.raceId || [...positions.keys()].some((id) => !now.has(id))) clearTable();
  shown = data.raceId;
  data.positions.forEach(takePosition);
  draw();
}

function takePosition(position) {
  const known = positions.get(position.participantId);
  if (known) known.position = position;
  else positions.set(position.participantId, { position, row: null, cells: null });
  changed.add(position.participantId);
  drawSoon();
}

function takeStale({ participantId, lastTimestamp }) {
  const known = positions.get(participantId);
  if (!known || known.position.timestamp !== lastTimestamp) return;
  known.position.stale = true;
  changed.add(participantId);
  drawSoon();
}

function takeError({ code, message }, id) {
  notice(`${message} (${code})`);
  if (id.startsWith("subscribe_race") && code !== "forbidden_race") setTimeout(subscribe, RETRY_MOST_MS);
}

function notice(text) {
  element("notice").textContent = text;
  element("notice").hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { element("notice").hidden = true; }, NOTICE_MS);
}

// --- what is seen ---

function say(state, text) {
  const line = element("connection");
  line.dataset.state = state;
  if (line.textContent !== text) line.textContent = text;
}

function showRaces(races) {
  const select = element("race");
  if (!raceId && races.length === 1) choose(races[0].raceId);
  const counts = new Map(races.map((race) => [race.raceId, race.participants]));
  if (raceId && !counts.has(raceId)) counts.set(raceId, 0);
  const wanted = [...counts].map(([id, count]) => [id, `${id} (${count})`]);
  if (!raceId) wanted.unshift(["", races.length ? "Choose a race" : "No race yet"]);
  // Options are changed in place: replacing them would close the list under somebody's finger.
  wanted.forEach(([value, text], index) => {
    const option = select.options[index] || select.appendChild(document.createElement("option"));
    if (option.value !== value) option.value = value;
    if (option.textContent !== text) option.textContent = text;
  });
  while (select.options.length > wanted.length) select.lastElementChild.remove();
  select.value = raceId;
  if (!raceId) summarise();
}

function choose(id) {
  if (id === raceId) return;
  if (raceId) send("unsubscribe_race", { raceId });
  raceId = id;
  keep("race", id);
  clearTable();
  if (raceId) subscribe();
}

function clearTable() {
  positions = new Map();
  changed.clear();
  shown = "";
  element("rows").replaceChildren();
  element("participants").hidden = true;
  element("summary").textContent = "";
}

function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(draw);
}

function draw() {
  drawing = false;
  const fresh = [];
  for (const id of changed) {
    const entry = positions.get(id);
    if (!entry) continue;
    if (!entry.row) {
      makeRow(entry);
      fresh.push(entry);
    }
    drawRow(entry);
  }
  changed.clear();
  if (fresh.length) insert(fresh);
  summarise();
}

function makeRow(entry) {
  const row = document.createElement("tr");
  const name = row.appendChild(document.createElement("th"));
  name.scope = "row";
  // bdi: an id in a right-to-left script does not turn its neighbours around.
  name.appendChild(document.createElement("bdi")).textContent = entry.position.participantId;
  entry.cells = [0, 1, 2].map(() => row.appendChild(document.createElement("td")));
  entry.cells[0].className = "status";
  entry.row = row;
}

function drawRow({ position, row, cells }) {
  const status = STATUSES.includes(position.status) ? position.status : "";
  row.dataset.status = status;
  row.classList.toggle("stale", position.stale === true);
  setText(cells[0], position.stale ? `${status}, stale` : status);
  setText(cells[1], `${position.latitude.toFixed(5)}, ${position.longitude.toFixed(5)}`);
  drawAge(position, cells[2]);
}

function drawAge(position, cell) {
  setText(cell, age(Date.now() - clockAheadMs - Date.parse(position.timestamp)));
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Rows stand in the order of their ids; a few new ones are put in place, many are sorted with the rest at once.
function insert(fresh) {
  const body = element("rows");
  const order = (a, b) => collator.compare(a.position.participantId, b.position.participantId);
  const all = [...positions.values()].filter((entry) => entry.row).sort(order);
  if (fresh.length > 20) body.replaceChildren(...all.map((entry) => entry.row));
  else {
    const isNew = new Set(fresh);
    for (let index = all.length - 1; index >= 0; index -= 1) {
      if (isNew.has(all[index])) body.insertBefore(all[index].row, all[index + 1] ? all[index + 1].row : null);
    }
  }
}

function summarise() {
  if (shown !== raceId || !raceId) return setText(element("summary"), "");
  const counts = new Map();
  let stale = 0;
  for (const { position } of positions.values()) {
    counts.set(position.status, (counts.get(position.status) || 0) + 1);
    if (position.stale) stale += 1;
  }
  const parts = STATUSES.filter((status) => counts.has(status)).map((status) => `${counts.get(status)} ${status}`);
  if (stale) parts.push(`${stale} stale`);
  const total = positions.size === 1 ? "1 participant" : `${positions.size} participants`;
  setText(element("summary"), positions.size ? `${total}: ${parts.join(", ")}` : "Nobody has been seen in this race yet.");
  element("participants").hidden = positions.size === 0;
}

function age(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

// --- start ---

function tick() {
  if (document.hidden) return;
  for (const { position, cells } of positions.values()) if (cells) drawAge(position, cells[2]);
}

element("race").addEventListener("change", (event) => choose(event.target.value));
element("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keep("token", element("token").value.trim());
  element("token").value = "";
  retries = 0;
  connect();
});
addEventListener("hashchange", () => { if (takeTokenFromAddress()) connect(); });
addEventListener("online", hurry);
document.addEventListener("visibilitychange", () => { hurry(); tick(); });
setInterval(tick, 1000);
setInterval(askForRaces, RACES_EVERY_MS);
takeTokenFromAddress();
connect();
