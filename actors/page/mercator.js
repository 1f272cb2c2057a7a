// Web Mercator (EPSG:3857) as numbers from 0 to 1: x eastward from 180° W, y southward from the northern edge. Pure.

export const EARTH_M = 40075016.686; // along the equator
const EDGE = 85.0511287798; // degrees: where the square map ends

export function project(latitude, longitude) {
  const sine = Math.sin((Math.max(-EDGE, Math.min(EDGE, latitude)) * Math.PI) / 180);
  return [longitude / 360 + 0.5, 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI)];
}

export function latitudeOf(y) {
  return (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI;
}

export function longitudeOf(x) {
  return (x - Math.floor(x)) * 360 - 180;
}

export function metresPerUnit(y) {
  return EARTH_M * Math.cos((latitudeOf(y) * Math.PI) / 180);
}

// The same place, on the turn of the globe that is nearest to `reference`: a race across 180° stays in one piece.
export function near(x, reference) {
  return x + Math.round(reference - x);
}

// Metres between two places that are not far from each other.
export function metres(x0, y0, x1, y1) {
  return Math.hypot(x1 - x0, y1 - y0) * metresPerUnit((y0 + y1) / 2);
}

// 1, 2 or 5 times a power of ten, the greatest that is not above `most`.
export function roundNumber(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  const digit = most / power;
  return (digit >= 5 ? 5 : digit >= 2 ? 2 : 1) * power;
}
