// Participants as dots: one each, or, when thousands are in view, a dot for everybody in the same small cell.

import { isGliding, whereNow } from "./race.js";

const RADIUS = 6; // CSS pixels, as are the others, for text of normal size
const RADIUS_OF_MANY = 4.5;
const CROWD = 100; // in view: from here on they are smaller
const MARGIN = 12; // still drawn when so far outside
const MANY = 1200; // in view: from here on cells are drawn
const CELL = 9; // CSS pixels
const FRACTION = 8; // sums of places are kept in eighths of a pixel
const SIZES = 6; // of dots of cells

export class Markers {
  inView = [];
  dense = false; // cells are drawn
  #palette;
  #ratio;
  #radius = RADIUS;
  #sprites = new Map();
  #cells = new Int32Array(0); // for each cell: members by status (4), stale ones, sum of x, sum of y

  setLook(palette, ratio) {
    this.#palette = palette;
    this.#ratio = ratio;
    this.#sprites.clear();
  }

  // Where everybody of `entries` is now; returns whether somebody is on the way to a new place.
  place(camera, entries, now) {
    const { left, top, scale, width, height, unit } = camera;
    let gliding = false;
    this.inView.length = 0;
    for (const entry of entries) {
      let { x, y } = entry;
      if (isGliding(entry, now)) {
        gliding = true;
        [x, y] = whereNow(entry, now);
      }
      const px = (x - left) * scale;
      const py = (y - top) * scale;
      entry.screenX = px;
      entry.screenY = py;
      if (px > -MARGIN && py > -MARGIN && px < width + MARGIN && py < height + MARGIN) this.inView.push(entry);
    }
    this.dense = this.inView.length > MANY;
    this.#radius = unit * (this.inView.length > CROWD ? RADIUS_OF_MANY : RADIUS);
    return gliding;
  }

  draw(context, camera) {
    if (this.dense) return this.#drawCells(context, camera);
    // Stale ones first: they do not lie on top of those that move.
    for (const stale of [true, false]) {
      for (const entry of this.inView) {
        if (entry.stale === stale) this.drawOne(context, entry);
      }
    }
    return undefined;
  }

  drawOne(context, entry) {
    this.#stamp(context, this.#sprite(entry.status, entry.stale, this.#radius), entry.screenX, entry.screenY);
  }

  drawChosen(context, entry, following) {
    context.beginPath();
    context.arc(entry.screenX, entry.screenY, this.#radius + 6, 0, 2 * Math.PI);
    context.globalAlpha = 0.25;
    context.fillStyle = this.#palette.accent;
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = following ? 3 : 2;
    context.strokeStyle = this.#palette.accent;
    context.stroke();
    this.drawOne(context, entry);
  }

  #drawCells(context, camera) {
    // Cells stay with the ground while the map is moved.
    const [originX, originY] = [camera.left * camera.scale, camera.top * camera.scale];
    const [firstColumn, firstRow] = [Math.floor((originX - MARGIN) / CELL), Math.floor((originY - MARGIN) / CELL)];
    const columns = Math.ceil((camera.width + 2 * MARGIN) / CELL) + 1;
    const rows = Math.ceil((camera.height + 2 * MARGIN) / CELL) + 1;
    if (this.#cells.length !== columns * rows * 7) this.#cells = new Int32Array(columns * rows * 7);
    const cells = this.#cells.fill(0);
    for (const entry of this.inView) {
      const column = Math.floor((entry.screenX + originX) / CELL) - firstColumn;
      const row = Math.floor((entry.screenY + originY) / CELL) - firstRow;
      const at = (row * columns + column) * 7;
      cells[at + entry.status] += 1;
      if (entry.stale) cells[at + 4] += 1;
      cells[at + 5] += entry.screenX * FRACTION;
      cells[at + 6] += entry.screenY * FRACTION;
    }
    for (let at = 0; at < cells.length; at += 7) {
      const count = cells[at] + cells[at + 1] + cells[at + 2] + cells[at + 3];
      if (!count) continue;
      let status = 0;
      for (let other = 1; other < 4; other += 1) if (cells[at + other] > cells[at + status]) status = other;
      const size = Math.min(SIZES - 1, Math.floor(Math.log2(count)));
      const sprite = this.#sprite(status, 2 * cells[at + 4] > count, 3 + size, true);
      this.#stamp(context, sprite, cells[at + 5] / count / FRACTION, cells[at + 6] / count / FRACTION);
    }
  }

  #stamp(context, sprite, x, y) {
    const half = sprite.width / this.#ratio / 2;
    context.drawImage(sprite, x - half, y - half, 2 * half, 2 * half);
  }

  // Drawn once, copied thousands of times: a path for each would take the whole frame.
  #sprite(status, stale, radius, cell = false) {
    const key = `${status} ${stale} ${radius} ${cell}`;
    let sprite = this.#sprites.get(key);
    if (sprite) return sprite;
    const half = radius + 2;
    sprite = document.createElement("canvas");
    sprite.width = sprite.height = Math.ceil(2 * half * this.#ratio);
    const context = sprite.getContext("2d");
    context.setTransform(this.#ratio, 0, 0, this.#ratio, sprite.width / 2, sprite.width / 2);
    context.globalAlpha = stale ? 0.45 : 1;
    outline(context, cell ? 0 : status, radius);
    context.fillStyle = stale && !cell ? this.#palette.halo : this.#palette.statuses[status];
    context.fill();
    context.lineWidth = cell ? 1 : 2;
    context.strokeStyle = stale && !cell ? this.#palette.statuses[status] : this.#palette.halo;
    context.stroke();
    this.#sprites.set(key, sprite);
    return sprite;
  }
}

// A shape for each status: not everybody tells colours apart.
function outline(context, status, radius) {
  const r = radius - 0.5;
  context.beginPath();
  if (status === 1) context.rect(-r * 0.85, -r * 0.85, r * 1.7, r * 1.7);
  else if (status === 0) context.arc(0, 0, r, 0, 2 * Math.PI);
  else {
    const corners = status === 2 ? [[0, -1.1], [1.1, 0], [0, 1.1], [-1.1, 0]] : [[0, 1.1], [1.1, -0.85], [-1.1, -0.85]];
    corners.forEach(([x, y]) => context.lineTo(x * r, y * r));
    context.closePath();
  }
}
