// Times in the reader's own zone, and deadlines that count down.

// The minutes left at which SPEC warns, and from which on it is critical.
const warnings = [30, 20, 10, 5, 1];
const criticalMinutes = 10;

const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function localise(root) {
  for (const e of root.querySelectorAll("time[data-local]")) {
    const at = new Date(e.dateTime);
    if (isNaN(at)) continue;
    const text = format.format(at);
    if (e.textContent !== text) {
      e.title = e.title || e.textContent;
      e.textContent = text;
    }
  }
}

// left writes a span of time as the server does (show.go).
export function left(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const n = units.findIndex(([seconds]) => s >= seconds);
  if (n < 0) return "0 s";
  const [seconds, name] = units[n];
  const text = `${Math.floor(s / seconds)} ${name}`;
  if (name === "s" || (name === "min" && s >= 300)) return text;
  const rest = Math.floor((s % seconds) / units[n + 1][0]);
  return rest > 0 ? `${text} ${rest} ${units[n + 1][1]}` : text;
}

function countDown(root, now) {
  for (const e of root.querySelectorAll("[data-deadline]")) {
    const ms = new Date(e.dataset.deadline) - now;
    const minutes = ms / 60000;
    const level = minutes <= criticalMinutes ? "critical" : minutes <= warnings[0] ? "warning" : "calm";
    if (e.dataset.level !== level) e.dataset.level = level;
    const shown = e.querySelector("[data-left]") ?? e;
    const text = ms > 0 ? left(ms) : "now";
    if (shown.textContent !== text) shown.textContent = text;
    if (e.matches(".deadline-notice")) e.hidden = level === "calm";
    announce(e, minutes);
  }
}

// announce tells screen readers once at each of the thresholds.
const announced = new Map();
function announce(e, minutes) {
  if (!e.matches(".deadline-notice")) return;
  const due = warnings.filter((w) => minutes <= w).pop();
  if (!due || minutes <= 0 || announced.get(e.dataset.deadline) === due) return;
  announced.set(e.dataset.deadline, due);
  const say = document.getElementById("announcer");
  if (say) say.textContent = `This instance ends in ${left(minutes * 60000)}.`;
}

export function refresh(root = document) {
  localise(root);
  countDown(root, Date.now());
}

export function start() {
  refresh();
  setInterval(() => countDown(document, Date.now()), 1000);
  document.addEventListener("htmx:afterSwap", () => refresh());
}
