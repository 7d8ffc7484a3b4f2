// The terminal page: xterm.js over the socket of one shell session.
import "./csp.js";
import { FitAddon } from "@xterm/addon-fit";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { Terminal } from "@xterm/xterm";
import { Session } from "./session.js";

const page = document.getElementById("terminal");
const screen = document.getElementById("screen");
const banner = document.getElementById("banner");
const reader = document.getElementById("screen-reader");

const term = new Terminal({
  fontFamily: 'ui-monospace, "SF Mono", SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace',
  fontSize: 14,
  scrollback: 10000,
  cursorBlink: true,
  allowProposedApi: false,
  // Sixteen colours that can all be read on the background, black apart.
  theme: {
    background: "#0b0d10", foreground: "#e6e8eb", cursor: "#4cc9a4", selectionBackground: "#33506b",
    black: "#2a2f37", red: "#ff7b72", green: "#5fd08f", yellow: "#f2bd5b", blue: "#79a8ff", magenta: "#d2a8ff", cyan: "#56d4dd", white: "#c9d1d9",
    brightBlack: "#7d8590", brightRed: "#ffa198", brightGreen: "#7ee2a8", brightYellow: "#f8d58a", brightBlue: "#a5c8ff", brightMagenta: "#e2c5ff", brightCyan: "#8ae6ec", brightWhite: "#ffffff",
  },
});
const fit = new FitAddon();
term.loadAddon(fit);
term.loadAddon(new WebLinksAddon((_, url) => window.open(url, "_blank", "noopener,noreferrer")));
term.open(screen);
fit.fit();

const session = new Session(term, {
  socket: page.dataset.socket,
  status: page.dataset.status,
  show(state, text, action) {
    page.dataset.state = state;
    document.getElementById("state").textContent = state === "connected" ? "Connected" : state === "ended" ? "Ended" : "Reconnecting…";
    banner.hidden = state === "connected" || state === "connecting";
    banner.querySelector("[data-text]").textContent = text ?? "";
    const button = banner.querySelector("button");
    button.hidden = !action;
    button.textContent = action?.label ?? "";
    button.onclick = () => { action?.run(); term.focus(); };
    if (action?.focus) button.focus();
  },
});

let fitting = 0;
new ResizeObserver(() => {
  clearTimeout(fitting);
  fitting = setTimeout(() => fit.fit(), 80);
}).observe(screen);

// Ctrl+Shift+C and V, as in terminals on a desktop; elsewhere Cmd works by itself.
term.attachCustomKeyEventHandler((e) => {
  if (e.type !== "keydown" || !e.ctrlKey || !e.shiftKey) return true;
  if (e.code === "KeyC" && term.hasSelection()) {
    navigator.clipboard?.writeText(term.getSelection());
    e.preventDefault();
    return false;
  }
  return e.code !== "KeyV"; // the browser then pastes, and xterm.js takes that
});

reader.addEventListener("change", () => {
  term.options.screenReaderMode = reader.checked;
  try { localStorage.setItem("ecolink.screen-reader", reader.checked ? "on" : ""); } catch { /* private mode */ }
  term.focus();
});
try { reader.checked = localStorage.getItem("ecolink.screen-reader") === "on"; } catch { /* private mode */ }
term.options.screenReaderMode = reader.checked;

session.connect();
term.focus();
