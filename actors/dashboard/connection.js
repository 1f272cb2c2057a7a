// One WebSocket that comes back by itself, and the token that opens it.

import { keep, kept } from "./session.js";

const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 15000;
const SILENCE_MS = 15000; // no answer for so long: the connection is dead, whatever the browser believes
const TOKEN_EXPIRED = 4401;
const TOKEN = /^[\w.~+-]+$/;

export class Connection {
  #path;
  #open; // no token is needed
  #told; // {state(name, text), opened(), message(object), tokenNeeded(reason)}
  #socket = null;
  #retryTimer = 0;
  #openTimer = 0; // a handshake on a bad line may hang for minutes
  #retries = 0;
  #requests = 0;
  #askedAt = 0; // when an answer was asked for that has not come; 0 = none is due
  #waitingForToken = false;
  #pending = new Map(); // request id -> {resolve, reject}

  constructor(path, open, told) {
    this.#path = path;
    this.#open = open;
    this.#told = told;
  }

  connect() {
    clearTimeout(this.#retryTimer);
    this.#leave();
    const token = kept("token");
    if (!token && !this.#open) return this.#askForToken("");
    if (token && !TOKEN.test(token)) return this.#askForToken("This is not a token.");
    this.#waitingForToken = false;
    this.#told.state("waiting", this.#retries ? "Connecting again" : "Connecting");
    const url = new URL(this.#path, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, token ? ["tracking.v1", `bearer.${token}`] : ["tracking.v1"]);
    let opened = false;
    this.#openTimer = setTimeout(() => this.#retry(), SILENCE_MS);
    socket.onopen = () => {
      opened = true;
      clearTimeout(this.#openTimer);
      this.#told.state("live", "Live");
      this.#told.opened();
    };
    socket.onmessage = (message) => {
      this.#askedAt = 0;
      this.#retries = 0;
      this.#take(JSON.parse(message.data));
    };
    socket.onclose = (close) => {
      if (close.code === TOKEN_EXPIRED) this.#askForToken("The token has expired.");
      else if (opened) this.#retry();
      else this.#findOutWhy(token);
    };
    this.#socket = socket;
  }

  // With a new token: at once, whatever happened before.
  begin() {
    this.#retries = 0;
    this.connect();
  }

  // There is hope again (back online, the tab is looked at): do not wait for the timer.
  hurry() {
    if (!this.#socket && !this.#waitingForToken && !document.hidden) this.connect();
  }

  send(event, data) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return "";
    this.#requests += 1;
    const id = `${event}-${this.#requests}`;
    this.#socket.send(JSON.stringify({ event, data, id }));
    if (!this.#askedAt) this.#askedAt = Date.now();
    return id;
  }

  // The data of the answer; rejects with what the server says, or when the connection is lost.
  request(event, data) {
    return new Promise((resolve, reject) => {
      const id = this.send(event, data);
      if (id) this.#pending.set(id, { resolve, reject });
      else reject(new Error("not connected"));
    });
  }

  // Asks something that is always answered, or notices that the last question was not.
  askForLife(event) {
    if (this.#askedAt && Date.now() - this.#askedAt > SILENCE_MS) this.#retry();
    else this.send(event, {});
  }

  #take(message) {
    const waiting = this.#pending.get(message.id);
    if (!waiting) return this.#told.message(message);
    this.#pending.delete(message.id);
    if (message.event === "error") return waiting.reject(new Error(message.data.message));
    return waiting.resolve(message.data);
  }

  #leave() {
    clearTimeout(this.#openTimer);
    for (const { reject } of this.#pending.values()) reject(new Error("connection lost"));
    this.#pending.clear();
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
    this.#askedAt = 0;
  }

  #retry() {
    this.#leave();
    const most = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** this.#retries);
    this.#retries += 1;
    this.#told.state("waiting", "Connection lost, trying again");
    clearTimeout(this.#retryTimer);
    // Jitter: after a restart of the server not every page comes in the same moment.
    this.#retryTimer = setTimeout(() => this.connect(), most * (0.5 + Math.random() / 2));
  }

  // A browser does not tell a refused handshake from a server that is away; the HTTP API does.
  async #findOutWhy(token) {
    const failed = this.#socket;
    clearTimeout(this.#openTimer);
    let status = 0;
    try {
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      status = (await fetch("api/races", { headers, cache: "no-store" })).status;
    } catch {
      // The server is away: try again later.
    }
    if (this.#socket !== failed) return;
    if (status === 401) this.#askForToken("The server did not accept the token.");
    else this.#retry();
  }

  #askForToken(reason) {
    clearTimeout(this.#retryTimer);
    this.#leave();
    keep("token", "");
    this.#waitingForToken = true;
    this.#told.state("refused", "Not connected");
    this.#told.tokenNeeded(reason);
  }
}
