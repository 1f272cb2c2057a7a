// get_history, one page at a time: the server answers one at a time for each dashboard.

const PAGE_LIMIT = 2000; // positions, some 350 kB: on a bad line what is live does not wait long behind it

let last = Promise.resolve();

// {positions, nextCursor}. Rejects when the connection is lost or the server says no.
export function historyPage(connection, query) {
  const page = last.then(() => connection.request("get_history", { limit: PAGE_LIMIT, ...query }));
  last = page.catch(() => undefined);
  return page;
}

// The positions of so many pages at most.
export async function history(connection, query, pagesMost) {
  const positions = [];
  for (let cursor = null, pages = 0; pages < pagesMost; pages += 1) {
    const page = await historyPage(connection, cursor ? { ...query, cursor } : query);
    positions.push(...page.positions);
    cursor = page.nextCursor;
    if (!cursor) break;
  }
  return positions;
}
