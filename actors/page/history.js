// get_history, one page at a time: the server answers one at a time for each dashboard.

import { mayBeLive } from "./settings.js";

const PAGE_LIMIT = 2000; // positions, some 350 kB: on a bad line what is live does not wait long behind it
const EARLIEST = Date.UTC(2000); // the server is asked for nothing before
const WIDER = 4; // times: from one look into the past to the next

let last = Promise.resolve();
let due = 0; // pages that are asked for or wait for their turn

// Whoever can wait asks only now.
export const isIdle = () => due === 0;

// {positions, times, nextCursor}: `times` (Unix ms) are those of all positions, `positions` only those that may be true.
// Rejects when the connection is lost or the server says no.
export function historyPage(connection, query) {
  const page = last.then(() => connection.request("get_history", { limit: PAGE_LIMIT, ...query }));
  due += 1;
  last = page.catch(() => undefined).then(() => { due -= 1; });
  return page.then(({ positions, nextCursor }) => ({
    positions: positions.filter(mayBeLive),
    times: positions.map(({ timestamp }) => Date.parse(timestamp)),
    nextCursor,
  }));
}

// {positions, whole}: of so many pages at most; whole: that was all.
export async function history(connection, query, pagesMost) {
  const positions = [];
  let cursor = null;
  for (let pages = 0; pages < pagesMost; pages += 1) {
    const page = await historyPage(connection, cursor ? { ...query, cursor } : query);
    positions.push(...page.positions);
    cursor = page.nextCursor;
    if (!cursor) break;
  }
  return { positions, whole: !cursor };
}

// The same of the last `span` ms before `end`, and of longer, as long as there are fewer than `least` of them and all
// can be had: whoever sends seldom has a way, too.
export async function recent(connection, query, end, { span, longest, least, pagesMost }) {
  let found = { positions: [] };
  for (let ms = span; ; ms *= WIDER) {
    const from = new Date(Math.max(EARLIEST, end - ms)).toISOString();
    const wider = await history(connection, { ...query, from }, pagesMost);
    if (wider.whole || !found.positions.length) found = wider;
    if (!wider.whole || found.positions.length >= least || ms >= longest) return found.positions;
  }
}
