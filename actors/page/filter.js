// Which participants are shown: by status, by silence, by a piece of their name. Chips with counts, and a search field.
// Who is stale counts as that and no longer as moving: nobody knows.

import { STATUSES } from "./race.js";
import { setText } from "./text.js";

const STALE = "stale";

export class Filter {
  #chips = new Map(); // status or "stale" -> {button, count}
  #chosen = new Set(); // of the same; empty = everybody
  #search;
  #changed;
  #wanted = "";

  constructor(box, search, changed) {
    this.#search = search;
    this.#changed = changed;
    [...STATUSES, STALE].forEach((name) => this.#makeChip(box, name));
    search.addEventListener("input", () => {
      this.#wanted = folded(search.value.trim());
      changed();
    });
  }

  get active() {
    return this.#chosen.size > 0 || this.#wanted !== "";
  }

  accepts = (entry) => {
    if (this.#chosen.size && !this.#chosen.has(entry.stale ? STALE : STATUSES[entry.status])) return false;
    return !this.#wanted || folded(entry.id).includes(this.#wanted);
  };

  clear() {
    this.#chosen.clear();
    this.#search.value = this.#wanted = "";
    this.#chips.forEach(({ button }) => button.setAttribute("aria-pressed", "false"));
    this.#changed();
  }

  showCounts({ stale, statuses }) {
    STATUSES.forEach((name, index) => this.#count(name, statuses[index]));
    this.#count(STALE, stale);
  }

  #count(name, count) {
    const { button, number } = this.#chips.get(name);
    setText(number, String(count));
    button.hidden = count === 0 && !this.#chosen.has(name);
  }

  #makeChip(box, name) {
    const button = box.appendChild(document.createElement("button"));
    button.type = "button";
    button.className = "chip";
    button.dataset.status = name;
    button.hidden = true;
    button.setAttribute("aria-pressed", "false");
    const number = document.createElement("b");
    const label = document.createElement("span");
    label.textContent = name;
    button.append(mark(), number, " ", label);
    button.addEventListener("click", () => {
      if (!this.#chosen.delete(name)) this.#chosen.add(name);
      button.setAttribute("aria-pressed", String(this.#chosen.has(name)));
      this.#changed();
    });
    this.#chips.set(name, { button, number });
  }
}

// The shape that the map draws for a status, in the colour of the nearest data-status.
export function mark() {
  const shape = document.createElement("span");
  shape.className = "mark";
  shape.setAttribute("aria-hidden", "true");
  return shape;
}

function folded(text) {
  return text.normalize("NFC").toLocaleLowerCase();
}
