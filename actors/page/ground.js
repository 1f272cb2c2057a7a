// What lies under the participants: a quiet graticule, tiles where there are some, and the scale bar.

import { latitudeOf, longitudeOf, metresPerUnit, project, roundNumber } from "./mercator.js";
import { length } from "./text.js";

const LINES_PX = 130; // CSS pixels, as are the others, for text of normal size: between lines of the graticule, at least
const SCALE_BAR_PX = 110; // at most
const EDGE_PX = 14;

export function drawGraticule(context, camera, palette) {
  const { left, top, scale, width, height, unit } = camera;
  const lower = height - camera.below;
  const step = roundNumber(((LINES_PX * unit * 360) / scale) * 2);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  context.lineWidth = 1;
  context.strokeStyle = palette.line;
  context.fillStyle = palette.quiet;
  context.globalAlpha = 1;
  context.font = `${10 * unit}px system-ui, sans-serif`;
  context.textBaseline = "alphabetic";
  context.textAlign = "left";
  context.beginPath();
  const labels = [];
  const west = Math.ceil((left * 360 - 180) / step);
  const east = Math.floor(((left + width / scale) * 360 - 180) / step);
  for (let n = west; n <= east; n += 1) {
    const x = Math.round(((n * step) / 360 + 0.5 - left) * scale) + 0.5;
    context.moveTo(x, 0);
    context.lineTo(x, height);
    labels.push([side(longitudeOf(n * step / 360 + 0.5), digits, "E", "W"), x + 4, lower - 5]);
  }
  const north = Math.floor(latitudeOf(Math.max(0, top)) / step);
  const south = Math.ceil(latitudeOf(Math.min(1, top + height / scale)) / step);
  for (let n = south; n <= north; n += 1) {
    const y = Math.round((project(n * step, 0)[1] - top) * scale) + 0.5;
    context.moveTo(0, y);
    context.lineTo(width, y);
    labels.push([side(n * step, digits, "N", "S"), width - 64 * unit, y - 4]);
  }
  context.stroke();
  context.globalAlpha = 0.75;
  // Not where the scale bar is, and not two in one corner.
  for (const [text, x, y] of labels) {
    const across = y === lower - 5;
    const free = across ? x > 150 * unit && x < width - 130 * unit : y > 12 * unit && y < lower - 24 * unit;
    if (free) context.fillText(text, x, y);
  }
  context.globalAlpha = 1;
}

function side(degrees, digits, positive, negative) {
  return `${Math.abs(degrees).toFixed(digits)}° ${degrees < 0 ? negative : positive}`;
}

export function drawScaleBar(context, camera, palette, bottom) {
  const perPixel = metresPerUnit(camera.y) / camera.scale;
  const { unit } = camera;
  const bar = roundNumber(SCALE_BAR_PX * unit * perPixel);
  const wide = bar / perPixel;
  const y = bottom - EDGE_PX;
  context.beginPath();
  context.moveTo(EDGE_PX, y - 5);
  context.lineTo(EDGE_PX, y);
  context.lineTo(EDGE_PX + wide, y);
  context.lineTo(EDGE_PX + wide, y - 5);
  for (const [colour, lineWidth] of [[palette.back, 4 * unit], [palette.text, 1.5 * unit]]) {
    context.strokeStyle = colour;
    context.lineWidth = lineWidth;
    context.stroke();
  }
  context.font = `${11 * unit}px system-ui, sans-serif`;
  context.textBaseline = "alphabetic";
  context.textAlign = "left";
  context.lineWidth = 3;
  context.strokeStyle = palette.back;
  context.strokeText(length(bar), EDGE_PX + 4, y - 6);
  context.fillStyle = palette.text;
  context.fillText(length(bar), EDGE_PX + 4, y - 6);
}
