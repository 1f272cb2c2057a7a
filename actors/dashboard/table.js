// The participants of one race as table rows. Everything from outside goes through textContent.

const STATUSES = ["moving", "stopped", "finished", "disqualified"];
const FEW = 20; // new rows that are put in place one by one; more are sorted in at once

const collator = new Intl.Collator(undefined, { numeric: true });

export class Table {
  #body;
  #changed; // called after each drawing with counts
  #entries = new Map(); // participant id -> {position, row, cells}
  #toDraw = new Set(); // participant ids
  #drawing = false;
  #clockAheadMs = 0; // this browser's clock minus the server's

  constructor(body, changed) {
    this.#body = body;
    this.#changed = changed;
  }

  clear() {
    this.#entries.clear();
    this.#toDraw.clear();
    this.#body.replaceChildren();
  }

  // Rows that stay are kept as they are, so that a snapshot after a reconnect or a resync does not flicker.
  replace(positions, serverTime) {
    this.#clockAheadMs = Date.now() - Date.parse(serverTime);
    const present = new Set(positions.map((position) => position.participantId));
    for (const [id, entry] of this.#entries) {
      if (present.has(id)) continue;
      entry.row?.remove();
      this.#entries.delete(id);
    }
    positions.forEach((position) => this.take(position));
    this.#draw();
  }

  take(position) {
    const entry = this.#entries.get(position.participantId);
    if (entry) entry.position = position;
    else this.#entries.set(position.participantId, { position, row: null, cells: null });
    this.#drawSoon(position.participantId);
  }

  turnStale(participantId, lastTimestamp) {
    const entry = this.#entries.get(participantId);
    if (entry?.position.timestamp !== lastTimestamp) return;
    entry.position.stale = true;
    this.#drawSoon(participantId);
  }

  // Once a second: nothing but the ages.
  tick() {
    for (const { position, cells } of this.#entries.values()) if (cells) this.#drawAge(position, cells[2]);
  }

  #drawSoon(participantId) {
    this.#toDraw.add(participantId);
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#drawing = false;
    const fresh = [];
    for (const id of this.#toDraw) {
      const entry = this.#entries.get(id);
      if (!entry) continue;
      if (!entry.row) {
        makeRow(entry);
        fresh.push(entry);
      }
      this.#drawRow(entry);
    }
    this.#toDraw.clear();
    if (fresh.length) this.#insert(new Set(fresh));
    this.#changed(this.#counts());
  }

  #drawRow({ position, row, cells }) {
    const status = STATUSES.includes(position.status) ? position.status : "";
    row.dataset.status = status;
    row.classList.toggle("stale", position.stale === true);
    setText(cells[0], position.stale ? `${status}, stale` : status);
    setText(cells[1], `${position.latitude.toFixed(5)}, ${position.longitude.toFixed(5)}`);
    this.#drawAge(position, cells[2]);
  }

  #drawAge(position, cell) {
    setText(cell, age(Date.now() - this.#clockAheadMs - Date.parse(position.timestamp)));
  }

  // In the order of the ids, numbers by their value.
  #insert(fresh) {
    const order = (a, b) => collator.compare(a.position.participantId, b.position.participantId);
    const all = [...this.#entries.values()].filter((entry) => entry.row).sort(order);
    if (fresh.size > FEW) {
      this.#body.replaceChildren(...all.map((entry) => entry.row));
      return;
    }
    for (let index = all.length - 1; index >= 0; index -= 1) {
      if (fresh.has(all[index])) this.#body.insertBefore(all[index].row, all[index + 1]?.row ?? null);
    }
  }

  // {total, stale, statuses: [[status, count], ...]}, without those that nobody has.
  #counts() {
    const counts = new Map(STATUSES.map((status) => [status, 0]));
    let stale = 0;
    for (const { position } of this.#entries.values()) {
      counts.set(position.status, (counts.get(position.status) || 0) + 1);
      if (position.stale) stale += 1;
    }
    return { total: this.#entries.size, stale, statuses: [...counts].filter(([, count]) => count) };
  }
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
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

function age(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}
