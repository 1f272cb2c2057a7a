// Why a WebSocket does not open. A browser tells nobody; HTTP to the same address does.

const NO_UPGRADE = "a proxy on the way does not pass Upgrade on";
const MEANINGS = {
  400: NO_UPGRADE,
  401: "a proxy wants a login of its own",
  403: "this page's origin is not allowed: [ws] cors_origin, or a proxy that does not pass Host on",
  404: "nothing is there: a proxy must pass this path on to the tracking server",
  426: NO_UPGRADE,
  502: "the proxy does not reach the tracking server",
  503: "the server is full, or not there",
  504: "the tracking server does not answer the proxy",
};

// {refused, text}: the token is not accepted; else what is wrong, "" when nothing can be said. `again`: it failed before,
// so what answers well now was not just away.
export async function whyNotOpen(url, token, again) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const ask = async (address, method) => {
    try {
      return (await fetch(address, { method, headers, cache: "no-store" })).status;
    } catch {
      return 0; // the server is away
    }
  };
  if ((await ask("api/races", "GET")) === 401) return { refused: true, text: "" };
  const address = new URL(url);
  address.protocol = location.protocol;
  let status = await ask(address, "GET");
  // The server itself: it wants a WebSocket, or would, if this page were from elsewhere: that it knows of a POST only.
  if (status === 426 && (await ask(address, "POST")) === 403) status = 403;
  if (!status || (status === 426 && !again)) return { refused: false, text: "" };
  const meaning = MEANINGS[status] || (status < 400 ? "that is no WebSocket: something else is there" : "");
  return { refused: false, text: `The WebSocket at ${url} answers ${status}${meaning && `: ${meaning}`}` };
}
