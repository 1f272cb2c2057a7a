// Which part of the world is in view, and the way to the next view.

import { EARTH_M } from "./mercator.js";

const SCALE_LEAST = 256; // pixels for the whole world
const SCALE_MOST = 256 * 2 ** 20;
const FIT_MOST = 256 * 2 ** 18; // one participant alone, or a crowd at the start, is not shown from nearer
const SETTLE_MS = 140; // time constant of an animated change
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Camera {
  x = 0.5; // centre, Web Mercator
  y = 0.4;
  scale = 1024; // CSS pixels for the width of the world
  width = 1; // of the view, CSS pixels
  height = 1;
  above = 0; // CSS pixels at the upper, lower and right edge that something lies over: the centre is between
  below = 0;
  aside = 0;
  unit = 1; // what is drawn is so many times as large as for text of normal size
  #target = null; // {x, y, scale}
  #at = 0; // when the way to it was last advanced

  get left() {
    return this.x - this.openWidth / 2 / this.scale;
  }

  get top() {
    return this.y - this.middle / this.scale;
  }

  // From the upper edge to the centre.
  get middle() {
    return this.above + this.open / 2;
  }

  // From above to below.
  get open() {
    return this.height - this.above - this.below;
  }

  // From the left edge to aside.
  get openWidth() {
    return this.width - this.aside;
  }

  get level() {
    return Math.log2(this.scale / 256);
  }

  pan(dx, dy) {
    this.#target = null;
    this.x -= dx / this.scale;
    this.y = clamp(this.y - dy / this.scale, 0, 1);
  }

  // The place under (px, py) stays where it is.
  zoom(factor, px = this.openWidth / 2, py = this.middle) {
    this.#target = null;
    const scale = clamp(this.scale * factor, SCALE_LEAST, SCALE_MOST);
    this.x += (px - this.openWidth / 2) * (1 / this.scale - 1 / scale);
    this.y = clamp(this.y + (py - this.middle) * (1 / this.scale - 1 / scale), 0, 1);
    this.scale = scale;
  }

  goTo(x, y, scale = this.#target?.scale ?? this.scale, atOnce = false) {
    if (!this.#target) this.#at = 0;
    this.#target = { x, y, scale: clamp(scale, SCALE_LEAST, SCALE_MOST) };
    if (atOnce || still.matches) this.#arrive();
  }

  fit(bounds, padding, atOnce) {
    const across = bounds.right - bounds.left;
    const down = bounds.bottom - bounds.top;
    const free = [Math.max(40, this.openWidth - 2 * padding), Math.max(40, this.open - 2 * padding)];
    const scale = Math.min(FIT_MOST, free[0] / Math.max(across, 1 / EARTH_M), free[1] / Math.max(down, 1 / EARTH_M));
    this.goTo((bounds.left + bounds.right) / 2, (bounds.top + bounds.bottom) / 2, scale, atOnce);
  }

  holds(bounds) {
    const right = this.left + this.openWidth / this.scale;
    const top = this.top + this.above / this.scale;
    const bottom = top + this.open / this.scale;
    return bounds.left >= this.left && bounds.right <= right && bounds.top >= top && bounds.bottom <= bottom;
  }

  // True while there is some way left.
  advance(now) {
    if (!this.#target) return false;
    const passed = this.#at ? now - this.#at : 16;
    this.#at = now;
    const share = 1 - Math.exp(-passed / SETTLE_MS);
    const { x, y, scale } = this.#target;
    this.scale *= (scale / this.scale) ** share;
    this.x += (x - this.x) * share;
    this.y += (y - this.y) * share;
    const near = Math.hypot(x - this.x, y - this.y) * scale < 0.3 && Math.abs(scale / this.scale - 1) < 0.002;
    if (near) this.#arrive();
    return this.#target !== null;
  }

  #arrive() {
    Object.assign(this, this.#target);
    this.#target = null;
  }
}

function clamp(value, least, most) {
  return Math.max(least, Math.min(most, value));
}
