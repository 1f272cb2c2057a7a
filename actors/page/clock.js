// The server's clock, as far as this page knows it. The clock of the browser may be an hour off, or be set meanwhile.

let offset = Date.now() - performance.now(); // milliseconds; until the server has spoken the browser's clock must do
let replayed = null;

// A snapshot says what time it is.
export function setServerTime(text) {
  offset = Date.parse(text) - performance.now();
}

// What has arrived at the server was there before now: a computer that slept has a clock that stands behind.
export function notBefore(ms) {
  if (ms > offset + performance.now()) offset = ms - performance.now();
}

// While the past is replayed, now is then. null: now is now.
export function pretend(ms) {
  replayed = ms;
}

export function serverNow() {
  return replayed ?? offset + performance.now();
}
