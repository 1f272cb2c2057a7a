// Light or dark, and the colours of colours.css for what is drawn on a canvas.

import { STATUSES } from "./race.js";

const system = matchMedia("(prefers-color-scheme: dark)");
const KEY = "theme"; // kept for the next visit; the system's own choice until somebody chooses

export function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    dark: isDark(),
    statuses: STATUSES.map(colour),
    back: colour("map"),
    line: colour("map-line"),
    quiet: colour("quiet"),
    text: colour("text"),
    halo: colour("card"),
    accent: colour("accent"),
  };
}

function isDark() {
  return (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
}

// `changed` is called after every change, by the switch or by the system.
export function startTheme(button, changed) {
  const told = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    changed();
  };
  const before = read();
  if (before) document.documentElement.dataset.theme = before;
  button.addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    write(next);
    told();
  });
  system.addEventListener("change", told);
  told();
}

function read() {
  try {
    const value = localStorage.getItem(KEY);
    return value === "dark" || value === "light" ? value : "";
  } catch {
    return "";
  }
}

function write(value) {
  try {
    localStorage.setItem(KEY, value);
  } catch {
    // A browser that keeps nothing: the choice lasts as long as the page.
  }
}
