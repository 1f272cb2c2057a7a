// Map tiles under the race, where `[page] tile_url` names some. Where there is none of a level, a part of a coarser one
// is drawn; what does not come at all is not drawn: the graticule shows.

const KEPT = 300; // tiles
const AGAIN_MS = 30000; // after a failure

export class Tiles {
  #template; // with {z}, {x}, {y}
  #levelMost; // the last one that there is
  #arrived; // called when there is something new to draw, or to ask for
  #tiles = new Map(); // "z/x/y" -> {address, image, ready, failedAt}, the least used first

  constructor({ template, levelMost }, arrived) {
    this.#template = template;
    this.#levelMost = levelMost;
    this.#arrived = arrived;
  }

  draw(context, camera, dark) {
    if (!this.#template) return;
    const level = Math.max(0, Math.min(this.#levelMost, Math.round(camera.level)));
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
    // The finest one that is here; a coarser one is asked for only when a finer one cannot be had.
    for (let up = 0, ask = true; up <= level; up += 1) {
      const [z, column, row] = [level - up, wrapped >> up, y >> up];
      const tile = ask ? this.#get(z, column, row) : this.#tiles.get(`${z}/${column}/${row}`);
      if (tile?.ready) return drawPart(context, tile.image, up, wrapped, y, [px, py, size + 0.5]);
      ask &&= tile.failedAt > 0;
    }
    return undefined;
  }

  #get(z, x, y) {
    const key = `${z}/${x}/${y}`;
    let tile = this.#tiles.get(key);
    if (tile) this.#tiles.delete(key); // put at the end again: the least used are first
    else {
      const address = this.#template.replace("{z}", z).replace("{x}", x).replace("{y}", y);
      this.#ask((tile = { address, image: null, ready: false, failedAt: 0 }));
    }
    this.#tiles.set(key, tile);
    if (tile.failedAt && performance.now() - tile.failedAt > AGAIN_MS) this.#ask(tile);
    if (this.#tiles.size > KEPT) this.#tiles.delete(this.#tiles.keys().next().value);
    return tile;
  }

  #ask(tile) {
    if (tile.failedAt) tile.failedAt = performance.now(); // not again meanwhile
    tile.image = new Image();
    tile.image.referrerPolicy = "no-referrer";
    tile.image.onload = () => {
      tile.ready = true;
      this.#arrived();
    };
    tile.image.onerror = () => {
      tile.failedAt = performance.now();
      this.#arrived();
    };
    tile.image.src = tile.address;
  }
}

// The tile that is `up` levels coarser, as much of it as belongs to column x and row y.
function drawPart(context, image, up, x, y, [left, top, size]) {
  const parts = 2 ** up;
  const [width, height] = [image.naturalWidth / parts, image.naturalHeight / parts];
  context.drawImage(image, (x % parts) * width, (y % parts) * height, width, height, left, top, size, size);
}
