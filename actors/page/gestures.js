// Fingers, mouse, wheel and keys on the map.

const TAP_PX = 6; // a pointer that moved no further has tapped
const KEY_PAN_PX = 80;
const WHEEL = 0.0018; // natural logarithm of the zoom for each pixel of the wheel
const LINE_PX = 16; // of wheels that count lines

// `told`: {pan(dx, dy), zoom(factor, x, y), tap(x, y), fit(), release()}
export function watchGestures(canvas, told) {
  const pointers = new Map(); // pointer id -> {x, y}
  let moved = 0; // pixels since the first pointer went down
  let wide = 0; // between two pointers, the last time

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const middle = () => {
    const all = [...pointers.values()];
    return {
      x: all.reduce((sum, each) => sum + each.x, 0) / all.length,
      y: all.reduce((sum, each) => sum + each.y, 0) / all.length,
    };
  };
  const spread = () => {
    const [one, other] = [...pointers.values()];
    return other ? Math.hypot(one.x - other.x, one.y - other.y) : 0;
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    if (!pointers.size) moved = 0;
    pointers.set(event.pointerId, at(event));
    wide = spread();
    if (pointers.size > 1) moved = Infinity;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = middle();
    const here = at(event);
    const last = pointers.get(event.pointerId);
    moved += Math.hypot(here.x - last.x, here.y - last.y);
    pointers.set(event.pointerId, here);
    if (moved <= TAP_PX) return;
    const after = middle();
    told.pan(after.x - before.x, after.y - before.y);
    const wider = spread();
    if (wide > 0 && wider > 0) told.zoom(wider / wide, after.x, after.y);
    wide = wider;
  });
  const up = (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    pointers.delete(event.pointerId);
    wide = spread();
    if (event.type === "pointerup" && !pointers.size && moved <= TAP_PX) told.tap(last.x, last.y);
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("dblclick", (event) => {
    const { x, y } = at(event);
    told.zoom(2, x, y);
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = at(event);
    const pixels = event.deltaY * (event.deltaMode === 1 ? LINE_PX : 1);
    told.zoom(Math.exp(-pixels * WHEEL * (event.ctrlKey ? 5 : 1)), x, y);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      ArrowLeft: () => told.pan(KEY_PAN_PX, 0),
      ArrowRight: () => told.pan(-KEY_PAN_PX, 0),
      ArrowUp: () => told.pan(0, KEY_PAN_PX),
      ArrowDown: () => told.pan(0, -KEY_PAN_PX),
      "+": () => told.zoom(1.5),
      "=": () => told.zoom(1.5),
      "-": () => told.zoom(1 / 1.5),
      0: () => told.fit(),
      Escape: () => told.release(),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
}
