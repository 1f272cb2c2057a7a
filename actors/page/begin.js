// Where a race begins in its history: not at fixes that a clock of 1,024 weeks ago has left there, and not where somebody
// tried a tracker the evening before. A few small questions tell, however long the race is.
//
// What comes before a silence of everybody does not belong to the race
// - after 6 hours, when it is little (at most 200 fixes) and ten times as much follows before the next such silence:
//   of a race of several days the first one has more,
// - after 3 days: no race rests so long. But where hardly anything follows, that is a tracker that was forgotten.

import { historyPage } from "./history.js";

const HOUR_MS = 3600000;
const NIGHT_MS = 6 * HOUR_MS;
const LONG_MS = 72 * HOUR_MS;
const STEP_MS = 24 * HOUR_MS; // from one look to the next, for long silences
const STEPS = 30; // at most: of what lasts longer than a month only longer silences are found
const LITTLE = 200;
const TIMES = 10;
const LOOKS_MOST = 40; // fewer than a second may have: they may all fall into one

// Unix ms, null when there is no history up to `end`. Rejects when none can be read.
export async function beginOf(connection, raceId, end) {
  let looks = 0;
  const look = (from, limit) => {
    looks += 1;
    if (looks > LOOKS_MOST) throw new Error("too many silences");
    const to = new Date(end + 1).toISOString();
    return historyPage(connection, { raceId, limit, to, ...(from && { from: new Date(from).toISOString() }) });
  };
  let page = await look(null, LITTLE + 1);
  try {
    for (let next = page; next; next = (await afterNight(page, look)) || (await afterLong(page, look, end))) page = next;
  } catch {
    // As far as it is known.
  }
  return page.times[0] ?? null;
}

async function afterNight({ times }, look) {
  const little = untilNight(times.slice(0, LITTLE + 1));
  if (little > LITTLE || little === times.length) return null;
  const next = await look(times[little], Math.max(LITTLE + 1, little * TIMES));
  return untilNight(next.times) < little * TIMES ? null : next;
}

async function afterLong(page, look, end) {
  const step = Math.max(STEP_MS, (end - page.times[0]) / STEPS);
  for (let time = page.times[0]; ; ) {
    const [found] = (await look(time + step, 1)).times;
    if (found === undefined) return null;
    if (found - time > LONG_MS - STEP_MS + step) {
      const next = await look(found, LITTLE + 1);
      const wrong = cameLate(page) && !cameLate(next); // of a recording that was sent afterwards both came late
      return wrong || next.times.length * TIMES > Math.min(LITTLE, page.times.length) ? next : null;
    }
    time = found;
  }
}

// How many there are before the first silence of a night.
function untilNight(times) {
  const after = times.findIndex((time, i) => i && time - times[i - 1] > NIGHT_MS);
  return after < 0 ? times.length : after;
}

function cameLate({ positions: [first] }) {
  return first !== undefined && Date.parse(first.receivedAt) - Date.parse(first.timestamp) > LONG_MS;
}
