// The page: one connection, one race at a time, one table.

import { Connection, keep, kept, takeTokenFromAddress } from "./connection.js";
import { Table, setText } from "./table.js";

const RACES_EVERY_MS = 10000; // also the sign of life that is asked for
const FIRST_RACE_EVERY_MS = 1000; // while there is none: a demo's first race appears at once
const SUBSCRIBE_AGAIN_MS = 5000;
const NOTICE_MS = 8000;

const element = (id) => document.getElementById(id);
const setting = (name) => document.querySelector(`meta[name="tracking-${name}"]`).content;

let raceId = kept("race") || "";
let shown = ""; // the race that the table shows: no longer the chosen one until its snapshot comes
let noticeTimer = 0;
let anyRace = false; // the last list had one

const table = new Table(element("rows"), summarise);
const connection = new Connection(setting("path"), setting("auth") === "off", {
  state: say,
  opened,
  message: receive,
  tokenNeeded,
});

function opened() {
  connection.askForLife("list_races");
  if (raceId) subscribe();
}

function subscribe() {
  connection.send("subscribe_race", { raceId });
}

function receive({ event, data, id }) {
  if (event === "races") return showRaces(data.races);
  if (event === "error") return takeError(data, String(id ?? ""));
  if (data.raceId !== raceId) return undefined; // left in the meantime
  if (event === "race_snapshot") {
    if (shown !== raceId) table.clear();
    shown = raceId;
    return table.replace(data.positions, data.serverTime);
  }
  if (event === "position_update") return table.take(data);
  if (event === "batch_position_update") return data.positions.forEach((position) => table.take(position));
  if (event === "participant_stale") return table.turnStale(data.participantId, data.lastTimestamp);
  return undefined;
}

function takeError({ code, message }, id) {
  setText(element("notice"), `${message} (${code})`);
  element("notice").hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { element("notice").hidden = true; }, NOTICE_MS);
  if (!id.startsWith("subscribe_race")) return;
  if (code === "forbidden_race") choose("");
  else setTimeout(subscribe, SUBSCRIBE_AGAIN_MS);
}

function choose(id) {
  if (id === raceId) return;
  if (raceId) connection.send("unsubscribe_race", { raceId });
  raceId = id;
  keep("race", id);
  shown = "";
  table.clear();
  element("participants").hidden = true;
  setText(element("summary"), "");
  if (raceId) subscribe();
}

function showRaces(races) {
  anyRace = races.length > 0;
  if (!raceId && races.length === 1) choose(races[0].raceId);
  const counts = new Map(races.map((race) => [race.raceId, race.participants]));
  if (raceId && !counts.has(raceId)) counts.set(raceId, 0);
  const wanted = [...counts].map(([id, count]) => [id, `${id} (${count})`]);
  if (!raceId) wanted.unshift(["", races.length ? "Choose a race" : "No race yet"]);
  const select = element("race");
  // Options are changed in place: replacing them would close the list under somebody's finger.
  wanted.forEach(([value, text], index) => {
    const option = select.options[index] || select.appendChild(document.createElement("option"));
    if (option.value !== value) option.value = value;
    setText(option, text);
  });
  while (select.options.length > wanted.length) select.lastElementChild.remove();
  select.value = raceId;
}

function summarise({ total, stale, statuses }) {
  if (!raceId || shown !== raceId) return;
  const parts = statuses.map(([status, count]) => `${count} ${status}`);
  if (stale) parts.push(`${stale} stale`);
  const people = total === 1 ? "1 participant" : `${total} participants`;
  setText(element("summary"), total ? `${people}: ${parts.join(", ")}` : "Nobody has been seen in this race yet.");
  element("participants").hidden = total === 0;
}

function say(state, text) {
  element("connection").dataset.state = state;
  setText(element("connection"), text);
  if (state === "refused") return;
  element("token-form").hidden = true;
  element("live").hidden = false;
}

function tokenNeeded(reason) {
  shown = "";
  table.clear();
  element("live").hidden = true;
  element("token-form").hidden = false;
  setText(element("token-reason"), reason);
  element("token").focus();
}

element("race").addEventListener("change", (event) => choose(event.target.value));
element("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keep("token", element("token").value.trim());
  element("token").value = "";
  connection.begin();
});
addEventListener("hashchange", () => { if (takeTokenFromAddress()) connection.begin(); });
addEventListener("online", () => connection.hurry());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  connection.hurry();
  table.tick();
});
setInterval(() => { if (!document.hidden) table.tick(); }, 1000);
setInterval(() => connection.askForLife("list_races"), RACES_EVERY_MS);
setInterval(() => { if (!anyRace && !document.hidden) connection.askForLife("list_races"); }, FIRST_RACE_EVERY_MS);
takeTokenFromAddress();
connection.begin();
