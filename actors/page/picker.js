// The list of races to choose from, with how many take part and when the last position came.

import { serverNow } from "./clock.js";
import { STALE_MS } from "./settings.js";
import { age, setText } from "./text.js";

const RECENT_MS = Math.max(120000, STALE_MS); // a race with a newer position is on, and is not said to be from so long ago

export class Picker {
  #select;
  #races = []; // as the server listed them, newest first

  constructor(select, chosen) {
    this.#select = select;
    select.addEventListener("change", () => chosen(select.value));
  }

  show(races, race) {
    this.#races = races;
    this.choose(race);
  }

  // `race` is the one that is shown: its count is live.
  choose(race) {
    const wanted = this.#races.map(({ raceId, participants, lastTimestamp }) => {
      const count = race?.id === raceId && race.entries.size ? race.entries.size : participants;
      const passed = serverNow() - Date.parse(lastTimestamp);
      return [raceId, `${raceId} · ${count}${passed > RECENT_MS ? ` · ${age(passed)}` : ""}`];
    });
    if (race && !wanted.some(([id]) => id === race.id)) wanted.unshift([race.id, `${race.id} · ${race.entries.size}`]);
    if (!race) wanted.unshift(["", this.#races.length ? "Choose a race" : "No race yet"]);
    // Options are changed in place: replacing them would close the list under somebody's finger.
    wanted.forEach(([value, text], index) => {
      const option = this.#select.options[index] || this.#select.appendChild(document.createElement("option"));
      if (option.value !== value) option.value = value;
      setText(option, text);
    });
    while (this.#select.options.length > wanted.length) this.#select.lastElementChild.remove();
    this.#select.value = race?.id ?? "";
  }
}
