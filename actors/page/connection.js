// One WebSocket that comes back by itself, and the token that opens it.

import { keep, kept } from "./session.js";
import { whyNotOpen } from "./why.js";

const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 15000;
const SILENCE_MS = 15000; // no word for so long though an answer is due: dead, whatever the browser believes
const LARGE_SILENCE_MS = 90000; // a snapshot of 10,000 is one message of 2 MB: on a bad line it takes its time
const HURRY_MS = 5000; // somebody has come back and looks at it
const LISTEN_MS = 1000;
const LARGE = new Set(["subscribe_race", "get_history"]);
const TOKEN_EXPIRED = 4401;
const TOKEN = /^[\w.~+-]+$/;

export class Connection {
  #path;
  #open; // no token is needed
  #told; // {state(name, text, silence in ms, why), opened(), message(object), tokenNeeded(reason)}
  #socket = null;
  #retryTimer = 0;
  #openTimer = 0; // a handshake on a bad line may hang for minutes
  #retries = 0;
  #requests = 0;
  #due = new Map(); // request id without an answer yet -> how long a silence it excuses
  #heardAt = performance.now(); // of the last message, or of the question that broke a silence
  #waitingForToken = false;
  #pending = new Map(); // request id -> {resolve, reject}

  constructor(path, open, told) {
    this.#path = path;
    this.#open = open;
    this.#told = told;
    setInterval(() => this.#listen(), LISTEN_MS);
  }

  connect() {
    clearTimeout(this.#retryTimer);
    this.#leave();
    const token = kept("token");
    if (!token && !this.#open) return this.#askForToken("");
    if (token && !TOKEN.test(token)) return this.#askForToken("This is not a token.");
    this.#waitingForToken = false;
    if (!this.#retries) this.#told.state("waiting", "Connecting");
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
      this.#heardAt = performance.now();
      this.#retries = 0;
      this.#take(JSON.parse(message.data));
    };
    socket.onclose = (close) => {
      if (close.code === TOKEN_EXPIRED) this.#askForToken("The token has expired.");
      else if (opened) this.#retry();
      else this.#findOutWhy(url, token);
    };
    this.#socket = socket;
  }

  // With a new token: at once, whatever happened before.
  begin() {
    this.#retries = 0;
    this.connect();
  }

  // There is hope again (back online, the tab is looked at): do not wait for the timer, and do not trust the line.
  hurry() {
    if (this.#waitingForToken || document.hidden) return;
    if (this.#socket) this.send("list_races", {}, HURRY_MS);
    else this.connect();
  }

  // The id of the request; "" when there is no connection. Every request is answered: it is a sign of life, too.
  send(event, data, patience = LARGE.has(event) ? LARGE_SILENCE_MS : SILENCE_MS) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return "";
    this.#requests += 1;
    const id = `${event}-${this.#requests}`;
    this.#socket.send(JSON.stringify({ event, data, id }));
    if (!this.#due.size) this.#heardAt = performance.now();
    this.#due.set(id, patience);
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

  #listen() {
    // Answers come in order: a small one waits for a large one before it.
    const patience = Math.max(...this.#due.values());
    if (this.#due.size && performance.now() - this.#heardAt > patience) this.#retry();
  }

  #take(message) {
    this.#due.delete(message.id);
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
    this.#due.clear();
  }

  #retry(why = "") {
    this.#leave();
    const most = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** this.#retries);
    this.#retries += 1;
    this.#told.state("lost", "Connection lost", performance.now() - this.#heardAt, why);
    clearTimeout(this.#retryTimer);
    // Jitter: after a restart of the server not every page comes in the same moment.
    this.#retryTimer = setTimeout(() => this.connect(), most * (0.5 + Math.random() / 2));
  }

  async #findOutWhy(url, token) {
    const failed = this.#socket;
    clearTimeout(this.#openTimer);
    const { refused, text } = await whyNotOpen(url, token, this.#retries > 0);
    if (this.#socket !== failed) return;
    if (refused) this.#askForToken("The server did not accept the token.");
    else this.#retry(text);
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
