// What this tab remembers: the token and the race. A browser may forbid it: then it lasts as long as the page.

const memory = new Map();

export function kept(name) {
  try {
    return sessionStorage.getItem(name) || "";
  } catch {
    return memory.get(name) || "";
  }
}

export function keep(name, value) {
  try {
    if (value) sessionStorage.setItem(name, value);
    else sessionStorage.removeItem(name);
  } catch {
    memory.set(name, value);
  }
}

// `#token=...&race=...`: the token goes into this tab's memory and out of the address bar, the history and every
// bookmark; the race may stay, for a link to be shared. Returns what was found.
export function takeFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const token = given.get("token") || "";
  const race = (given.get("race") || "").normalize("NFC"); // as the daemon has it
  if (race) keep("race", race);
  if (token) {
    keep("token", token);
    showInAddress(race);
  }
  return { token, race };
}

export function showInAddress(race) {
  const fragment = race ? `#${new URLSearchParams({ race })}` : "";
  history.replaceState(null, "", location.pathname + location.search + fragment);
}
