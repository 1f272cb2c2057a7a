// get_history, one page at a time: the server answers one at a time for each dashboard.

let last = Promise.resolve();

// {positions, nextCursor}. Rejects when the connection is lost or the server says no.
export function historyPage(connection, query) {
  const page = last.then(() => connection.request("get_history", query));
  last = page.catch(() => undefined);
  return page;
}
