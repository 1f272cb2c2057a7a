// What the page has to know of the server's settings: it stands in its <meta>.

export const setting = (name) => document.querySelector(`meta[name="tracking-${name}"]`).content;

export const STALE_MS = Number(setting("stale-ms")); // silent for longer is stale
const SKEW_MS = Number(setting("skew-ms"));

// Of a position: whether its time may be true. One that was ahead of the server's clock when it came is in history only.
export function mayBeLive({ timestamp, receivedAt }) {
  return Date.parse(timestamp) - SKEW_MS <= Date.parse(receivedAt);
}
