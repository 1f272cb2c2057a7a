// The map: draws the race that it is given, whenever something has changed.

import { Camera } from "./camera.js";
import { watchGestures } from "./gestures.js";
import { drawGraticule, drawScaleBar } from "./ground.js";
import { Labels } from "./labels.js";
import { Markers } from "./markers.js";
import { Tiles } from "./tiles.js";
import { drawTrails } from "./trails.js";

const RATIO_MOST = 2; // device pixels for a CSS pixel: more is not seen and costs
const TRAILS_MOST = 250; // in view: beyond it trails would be a carpet
const TRAILS_THIN = 60; // in view: from here on they are thinner
const TAP_RADIUS = 20; // CSS pixels
const FIT_PADDING = 56; // CSS pixels: what lies at the edges has its place there,
const FIT_PADDING_MOST = 0.2; // of what is free: on a phone with an open panel that is little
const FIT_SLACK = 0.12; // of the same: so that it does not have to be fitted again at once
const FOLLOW_SCALE = 256 * 2 ** 15; // following begins at least so near

export class MapView {
  camera = new Camera();
  race = null;
  chosen = ""; // participant id
  following = false;
  #canvas;
  #context;
  #told; // {choose(id), followed(yes)}
  #filter = () => true;
  #palette = null;
  #markers = new Markers();
  #labels = new Labels();
  #tiles;
  #frame = 0;
  #ratio = 1; // device pixels for a CSS pixel, of the canvas as it is
  #automatic = true; // everybody is kept in view until somebody moves the map
  #fitted = false; // this race has been in view once

  constructor(canvas, tiles, told) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
    this.#told = told;
    this.#tiles = new Tiles(tiles, () => this.redraw());
    watchGestures(canvas, {
      pan: (dx, dy) => this.#byHand(() => this.camera.pan(dx, dy), true),
      zoom: (factor, x, y) => this.zoom(factor, x, y),
      tap: (x, y) => this.#tap(x, y),
      fit: () => this.fit(),
      release: () => this.follow(false),
    });
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  show(race) {
    if (this.race?.id !== race?.id) {
      this.#fitted = false;
      this.#automatic = true;
      this.chosen = "";
      this.follow(false);
    }
    this.race = race;
    this.redraw();
  }

  setFilter(filter) {
    this.#filter = filter;
    this.redraw();
  }

  setPalette(palette) {
    this.#palette = palette;
    this.#markers.setLook(palette, this.#ratio);
    this.redraw();
  }

  // So many CSS pixels at the upper, the lower and the right edge are behind something.
  setCover(cover) {
    if (!Object.entries(cover).some(([edge, pixels]) => this.camera[edge] !== pixels)) return;
    Object.assign(this.camera, cover);
    if (this.#automatic && this.#fitted) this.fit();
    this.redraw();
  }

  redraw() {
    if (!this.#frame) this.#frame = requestAnimationFrame((now) => this.#draw(now));
  }

  zoom(factor, x, y) {
    this.#byHand(() => {
      const followed = this.following && this.#chosenEntry;
      // What is followed stays in the middle.
      this.camera.zoom(factor, ...(followed ? [] : [x, y]));
    });
  }

  fit() {
    this.follow(false);
    this.#automatic = true;
    const bounds = this.#bounds();
    const free = Math.min(this.camera.openWidth, this.camera.open);
    const padding = Math.max(FIT_SLACK * free, Math.min(FIT_PADDING, FIT_PADDING_MOST * free));
    if (bounds) this.camera.fit(bounds, padding, !this.#fitted);
    this.#fitted ||= bounds !== null;
    this.redraw();
  }

  choose(id) {
    this.chosen = id;
    if (!id) this.follow(false);
    this.redraw();
  }

  goNear(entry) {
    this.#automatic = false;
    this.camera.goTo(entry.x, entry.y, Math.max(this.camera.scale, FOLLOW_SCALE));
    this.redraw();
  }

  // Who was chosen in the list is to be seen, too.
  reveal({ x, y }) {
    if (!this.camera.holds({ left: x, right: x, top: y, bottom: y })) this.#byHand(() => this.camera.goTo(x, y));
  }

  follow(yes) {
    if (this.following === yes) return;
    this.following = yes;
    if (yes && this.#chosenEntry) this.goNear(this.#chosenEntry);
    this.#told.followed(yes);
    this.redraw();
  }

  // Once a second: who has walked out of the picture is brought back, unless somebody chose this view. And on another
  // screen the canvas gets its pixels: no event tells of that in every browser.
  keepInView() {
    if (this.#ratio !== ratioNow()) this.redraw();
    if (!this.#automatic || this.following) return;
    const bounds = this.#bounds();
    if (bounds && !(this.#fitted && this.camera.holds(bounds))) this.fit();
  }

  // Whose trails are drawn.
  get trailed() {
    return this.#markers.inView.length <= TRAILS_MOST ? this.#markers.inView : [];
  }

  get #chosenEntry() {
    return this.race?.entries.get(this.chosen);
  }

  #byHand(change, leaves = false) {
    this.#automatic = false;
    if (leaves) this.follow(false);
    change();
    this.redraw();
  }

  #tap(x, y) {
    let best = null;
    let nearest = TAP_RADIUS;
    let around = 0;
    for (const entry of this.#markers.inView) {
      const distance = Math.hypot(entry.screenX - x, entry.screenY - y);
      if (distance < TAP_RADIUS) around += 1;
      if (distance < nearest) [best, nearest] = [entry, distance];
    }
    if (this.#markers.dense && around > 1) this.zoom(4, x, y);
    else this.#told.choose(best ? best.id : "");
  }

  #bounds() {
    const bounds = { left: Infinity, right: -Infinity, top: Infinity, bottom: -Infinity };
    for (const { x, y } of this.#shown()) {
      bounds.left = Math.min(bounds.left, x);
      bounds.right = Math.max(bounds.right, x);
      bounds.top = Math.min(bounds.top, y);
      bounds.bottom = Math.max(bounds.bottom, y);
    }
    return bounds.left <= bounds.right ? bounds : null;
  }

  #shown() {
    return this.race ? [...this.race.entries.values()].filter(this.#filter) : [];
  }

  #resize() {
    this.#ratio = ratioNow();
    const { clientWidth, clientHeight } = this.#canvas;
    this.#canvas.width = Math.round(clientWidth * this.#ratio);
    this.#canvas.height = Math.round(clientHeight * this.#ratio);
    this.camera.width = clientWidth;
    this.camera.height = clientHeight;
    this.camera.unit = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
    if (this.#palette) this.#markers.setLook(this.#palette, this.#ratio);
    if (this.#automatic && this.#fitted) this.fit();
    // Now, not in the next frame: a canvas is empty after its size has changed.
    cancelAnimationFrame(this.#frame);
    this.#draw(performance.now());
  }

  #draw(now) {
    this.#frame = 0;
    if (!this.#palette || !this.camera.width) return undefined;
    if (this.#ratio !== ratioNow()) return this.#resize(); // which draws
    const context = this.#context;
    const camera = this.camera;
    const palette = this.#palette;
    const chosen = this.#chosenEntry;
    if (this.following && chosen) camera.goTo(chosen.x, chosen.y);
    let again = camera.advance(now);
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    context.fillStyle = palette.back;
    context.fillRect(0, 0, camera.width, camera.height);
    drawGraticule(context, camera, palette);
    this.#tiles.draw(context, camera, palette.dark);
    again = this.#markers.place(camera, this.#shown(), now) || again;
    const width = camera.unit * (this.trailed.length < TRAILS_THIN ? 2.5 : 1.5);
    drawTrails(context, camera, this.trailed, palette.statuses, { width, alpha: 0.5 });
    if (chosen?.track) {
      drawTrails(context, camera, [chosen], palette.statuses.map(() => palette.accent), { width: 3.5 * camera.unit, alpha: 0.9 });
    }
    this.#markers.draw(context, camera);
    if (chosen) this.#markers.drawChosen(context, chosen, this.following);
    this.#labels.draw(context, camera, palette, this.#markers.dense ? [] : this.#markers.inView, chosen);
    drawScaleBar(context, camera, palette, camera.height - camera.below);
    if (again) this.redraw();
    return undefined;
  }
}

function ratioNow() {
  return Math.min(RATIO_MOST, window.devicePixelRatio || 1);
}
