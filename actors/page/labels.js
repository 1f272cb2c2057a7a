// Names beside participants, where there is room for them.

const MOST = 80; // names at once: more are not read
const HEIGHT = 14; // CSS pixels
const BESIDE = 10; // from the middle of a participant to its name
const CELL = 6; // of the grid that says where something is already
const MARKER = BESIDE - CELL; // half a participant: its own name is never in the same cell

export class Labels {
  #named = new Set(); // ids that had a name the last time: they keep it, so that names do not jump about
  #widths = new Map(); // id -> CSS pixels
  #unit = 0; // that these are for
  #taken = new Uint8Array(0);
  #columns = 0;
  #rows = 0;

  // `entries` are those that are drawn; `chosen`, if there is one, has its name whatever lies under it.
  draw(context, camera, palette, entries, chosen) {
    this.#begin(context, camera);
    const { unit } = camera;
    entries.forEach(({ screenX, screenY }) => this.#take(screenX - MARKER, screenY - MARKER, 2 * MARKER, 2 * MARKER));
    const named = new Set();
    if (chosen) {
      this.#take(...this.#box(context, chosen, unit));
      named.add(chosen.id);
    }
    for (const before of [true, false]) {
      for (const entry of entries) {
        if (named.size >= MOST) break;
        if (this.#named.has(entry.id) !== before || named.has(entry.id)) continue;
        const box = this.#box(context, entry, unit);
        if (!this.#isFree(...box)) continue;
        this.#take(...box);
        named.add(entry.id);
        write(context, palette, entry, unit, 500);
      }
    }
    if (chosen) write(context, palette, chosen, unit, 700);
    this.#named = named;
  }

  #begin(context, { width, height, unit }) {
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.lineJoin = "round";
    context.lineWidth = 3 * unit;
    if (unit !== this.#unit || this.#widths.size > 20000) this.#widths.clear();
    this.#unit = unit;
    this.#columns = Math.ceil(width / CELL);
    this.#rows = Math.ceil(height / CELL);
    const cells = this.#columns * this.#rows;
    if (this.#taken.length === cells) this.#taken.fill(0);
    else this.#taken = new Uint8Array(cells);
  }

  #box(context, entry, unit) {
    let width = this.#widths.get(entry.id);
    if (width === undefined) {
      context.font = font(700, unit);
      width = context.measureText(entry.id).width;
      this.#widths.set(entry.id, width);
    }
    const high = HEIGHT * unit;
    return [entry.screenX + BESIDE * unit, entry.screenY - high / 2, width, high];
  }

  #isFree(x, y, width, height) {
    if (x < 0 || y < 0 || x + width >= this.#columns * CELL || y + height >= this.#rows * CELL) return false;
    return !this.#some(x, y, width, height, (at) => this.#taken[at]);
  }

  #take(x, y, width, height) {
    this.#some(x, y, width, height, (at) => {
      this.#taken[at] = 1;
      return false;
    });
  }

  // Whether the question is true of a cell that the box touches, as far as it is on the map.
  #some(x, y, width, height, question) {
    const right = Math.min(this.#columns - 1, Math.floor((x + width) / CELL));
    const lower = Math.min(this.#rows - 1, Math.floor((y + height) / CELL));
    for (let row = Math.max(0, Math.floor(y / CELL)); row <= lower; row += 1) {
      for (let column = Math.max(0, Math.floor(x / CELL)); column <= right; column += 1) {
        if (question(row * this.#columns + column)) return true;
      }
    }
    return false;
  }
}

function font(weight, unit) {
  return `${weight} ${12 * unit}px system-ui, sans-serif`;
}

function write(context, palette, entry, unit, weight) {
  const x = entry.screenX + BESIDE * unit;
  context.font = font(weight, unit);
  context.globalAlpha = 0.85;
  context.strokeStyle = palette.back;
  context.strokeText(entry.id, x, entry.screenY);
  context.globalAlpha = 1;
  context.fillStyle = entry.stale ? palette.quiet : palette.text;
  context.fillText(entry.id, x, entry.screenY);
}
