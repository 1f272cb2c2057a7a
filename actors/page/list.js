// The participants as a list of which only the visible rows exist: 10,000 cost as much as 20.

import { serverNow } from "./clock.js";
import { mark } from "./filter.js";
import { STATUSES } from "./race.js";
import { age, setText } from "./text.js";

const SPARE = 4; // rows beyond each edge of what is visible
const SORT_MS = 1000; // at most so often while participants come

const collator = new Intl.Collator(undefined, { numeric: true });
const ORDERS = {
  name: (a, b) => collator.compare(a.id, b.id),
  silent: (a, b) => a.time - b.time || collator.compare(a.id, b.id),
  recent: (a, b) => b.time - a.time || collator.compare(a.id, b.id),
};

export class List {
  #box;
  #space; // as high as all rows
  #told; // choose(id, withKeys)
  #rows = []; // elements, reused
  #race = null;
  #members = -1; // race.members when it was sorted
  #sortedAt = -Infinity;
  #sorted = [];
  #shown = []; // entries after the filter
  #accepts = () => true;
  #order = "name";
  #active = ""; // id of the row that the keys are on
  #chosen = "";

  constructor(box, told) {
    this.#box = box;
    this.#told = told;
    this.#space = box.appendChild(document.createElement("div"));
    this.#space.setAttribute("role", "presentation");
    box.addEventListener("scroll", () => this.#draw());
    box.addEventListener("keydown", (event) => this.#key(event));
    box.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (row) this.#told(row.dataset.id, false);
    });
    new ResizeObserver(() => this.#draw()).observe(box);
  }

  get length() {
    return this.#shown.length;
  }

  show(race) {
    this.#race = race;
    this.#members = -1;
    this.#sortedAt = -Infinity;
    this.#active = "";
    this.#box.scrollTop = 0;
    this.update();
  }

  setFilter(accepts) {
    this.#accepts = accepts;
    this.update();
  }

  setOrder(order) {
    this.#order = order;
    this.#members = -1;
    this.#sortedAt = -Infinity;
    this.update();
  }

  choose(id) {
    this.#chosen = id;
    if (id) {
      this.#active = id;
      this.#reveal(this.#shown.findIndex((entry) => entry.id === id));
    }
    this.#draw();
  }

  // A few times a second, and at once when something else is to be shown.
  update() {
    const entries = this.#race?.entries;
    const now = performance.now();
    const came = this.#race && this.#members !== this.#race.members;
    const long = now - this.#sortedAt > SORT_MS || !this.#sorted.length; // who comes first is shown at once
    if ((came || this.#order !== "name") && long) {
      this.#sorted = [...entries?.values() ?? []].sort(ORDERS[this.#order]);
      this.#members = this.#race?.members ?? -1;
      this.#sortedAt = now;
    } else if (!this.#race) this.#sorted = [];
    this.#shown = this.#sorted.filter((entry) => entries.has(entry.id) && this.#accepts(entry));
    this.#draw();
  }

  get #height() {
    return 2.75 * Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
  }

  #draw() {
    const high = this.#height;
    const box = this.#box;
    box.hidden = this.#shown.length === 0;
    this.#space.style.height = `${this.#shown.length * high}px`;
    const first = Math.max(0, Math.floor(box.scrollTop / high) - SPARE);
    const last = Math.min(this.#shown.length, Math.ceil((box.scrollTop + box.clientHeight) / high) + SPARE);
    const now = serverNow();
    while (this.#rows.length < last - first) this.#rows.push(this.#makeRow());
    const count = this.#rows.length;
    this.#rows.forEach((row, k) => {
      // A participant keeps its element while it is scrolled: the keys always go to another one, which is read out.
      const index = first + ((((k - first) % count) + count) % count);
      row.hidden = index >= last;
      if (!row.hidden) this.#drawRow(row, this.#shown[index], index, high, now);
    });
    const active = this.#rows.find((row) => !row.hidden && row.dataset.id === this.#active);
    if (active) box.setAttribute("aria-activedescendant", active.id);
    else box.removeAttribute("aria-activedescendant");
  }

  #makeRow() {
    const row = this.#space.appendChild(document.createElement("div"));
    row.id = `row-${this.#rows.length}`;
    row.className = "row";
    row.setAttribute("role", "option");
    // bdi: an id in a right-to-left script does not turn its neighbours around.
    row.append(mark(), ...["bdi", "span", "time"].map((name) => document.createElement(name)));
    return row;
  }

  #drawRow(row, entry, index, high, now) {
    const [, name, status, when] = row.children;
    const top = `translateY(${index * high}px)`;
    if (row.style.transform !== top) row.style.transform = top;
    setAttributes(row, {
      "data-id": entry.id,
      "data-status": STATUSES[entry.status],
      "aria-posinset": index + 1,
      "aria-setsize": this.#shown.length,
      "aria-selected": entry.id === this.#chosen,
    });
    row.classList.toggle("stale", entry.stale);
    row.classList.toggle("active", entry.id === this.#active);
    setText(name, entry.id);
    setText(status, entry.stale ? `${STATUSES[entry.status]}, stale` : STATUSES[entry.status]);
    setText(when, age(now - entry.time));
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.#box.clientHeight / this.#height) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    const at = this.#shown.findIndex((entry) => entry.id === this.#active);
    if (event.key in steps) {
      const next = Math.max(0, Math.min(this.#shown.length - 1, at + steps[event.key]));
      this.#active = this.#shown[next]?.id ?? "";
      this.#reveal(next);
      this.#draw();
    } else if ((event.key === "Enter" || event.key === " ") && at >= 0) this.#told(this.#active, true);
    else return;
    event.preventDefault();
  }

  #reveal(index) {
    if (index < 0) return;
    const high = this.#height;
    const { scrollTop, clientHeight } = this.#box;
    if (index * high < scrollTop) this.#box.scrollTop = index * high;
    else if ((index + 1) * high > scrollTop + clientHeight) this.#box.scrollTop = (index + 1) * high - clientHeight;
  }
}

function setAttributes(node, values) {
  for (const [name, value] of Object.entries(values)) {
    const text = String(value);
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}
