// Map tiles under the race, where `[page] tile_url` names some. What does not come is not drawn: the graticule shows.

const SIDE = 256; // pixels
const LEVEL_MOST = 19;
const KEPT = 300; // tiles
const AGAIN_MS = 30000; // after a failure

export class Tiles {
  #template; // with {z}, {x}, {y}
  #arrived; // called when there is something new to draw
  #tiles = new Map(); // "z/x/y" -> {image, ready, failedAt}, the least used first

  constructor(template, arrived) {
    this.#template = template;
    this.#arrived = arrived;
  }

  draw(context, camera, dark) {
    if (!this.#template) return;
    const level = Math.max(0, Math.min(LEVEL_MOST, Math.round(camera.level)));
    const count = 2 ** level;
    const size = camera.scale / count;
    const first = [Math.floor(camera.left * count), Math.max(0, Math.floor(camera.top * count))];
    const last = [
      Math.floor((camera.left + camera.width / camera.scale) * count),
      Math.min(count - 1, Math.floor((camera.top + camera.height / camera.scale) * count)),
    ];
    context.globalAlpha = dark ? 0.55 : 0.9;
    for (let x = first[0]; x <= last[0]; x += 1) {
      for (let y = first[1]; y <= last[1]; y += 1) {
        this.#drawOne(context, level, x, y, (x / count - camera.left) * camera.scale, (y / count - camera.top) * camera.scale, size);
      }
    }
    context.globalAlpha = 1;
  }

  #drawOne(context, level, x, y, px, py, size) {
    const wrapped = ((x % 2 ** level) + 2 ** level) % 2 ** level;
    const tile = this.#get(level, wrapped, y);
    if (tile.ready) {
      context.drawImage(tile.image, px, py, size + 0.5, size + 0.5);
      return;
    }
    // Meanwhile a part of a coarser one that is here already.
    for (let up = 1; up <= 4 && up <= level; up += 1) {
      const parent = this.#tiles.get(`${level - up}/${wrapped >> up}/${y >> up}`);
      if (!parent?.ready) continue;
      const part = SIDE / 2 ** up;
      const within = 2 ** up - 1;
      context.drawImage(parent.image, (wrapped & within) * part, (y & within) * part, part, part, px, py, size + 0.5, size + 0.5);
      return;
    }
  }

  #get(z, x, y) {
    const key = `${z}/${x}/${y}`;
    let tile = this.#tiles.get(key);
    if (tile && !(tile.failedAt && performance.now() - tile.failedAt > AGAIN_MS)) {
      this.#tiles.delete(key); // put at the end again: the least used are first
    } else {
      tile = this.#load(z, x, y);
    }
    this.#tiles.set(key, tile);
    if (this.#tiles.size > KEPT) this.#tiles.delete(this.#tiles.keys().next().value);
    return tile;
  }

  #load(z, x, y) {
    const tile = { image: new Image(SIDE, SIDE), ready: false, failedAt: 0 };
    tile.image.referrerPolicy = "no-referrer";
    tile.image.onload = () => {
      tile.ready = true;
      this.#arrived();
    };
    tile.image.onerror = () => { tile.failedAt = performance.now(); };
    tile.image.src = this.#template.replace("{z}", z).replace("{x}", x).replace("{y}", y);
    return tile;
  }
}
