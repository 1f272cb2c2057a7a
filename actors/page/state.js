// What the page says of its connection: live, being replayed, lost since when.

import { serverNow } from "./clock.js";
import { setText, timeOfDay } from "./text.js";

const element = (id) => document.getElementById(id);
let lostAt = 0; // by the server's clock; 0 = not lost

// The node that this page came from; "" where there is only one.
export function showNode(name) {
  setText(element("node-name"), name);
  element("node").hidden = !name;
}

// `state`: waiting, live, lost (noticed after so many ms of silence; `why`, where that is known), refused. A replay is
// not live, whatever it is.
export function showState({ state, text, silence, why }, replayed) {
  const past = replayed && state === "live";
  document.body.dataset.connection = past ? "replay" : state;
  setText(element("connection-text"), past ? "Replay" : text);
  if (state !== "lost") lostAt = 0;
  else {
    lostAt ||= serverNow() - silence;
    setText(element("stall"), `${why ? `${why}. ` : ""}No connection since ${timeOfDay(lostAt)}: trying again`);
  }
  element("stall").hidden = !lostAt || replayed;
  element("token-form").hidden = state !== "refused";
  element("choice").hidden = state === "refused";
  element("live").hidden = state === "refused";
}
