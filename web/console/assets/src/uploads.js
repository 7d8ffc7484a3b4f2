// The queue of uploads, by the tus protocol: each goes on where it was cut off, be
// it by the network or by a reload of the page with the same file chosen again.
import { Upload, defaultOptions } from "tus-js-client";
import { left } from "./times.js";

const atOnce = 3;
const retryDelays = [0, 500, 1000, 2000, 4000, 8000, 15000]; // milliseconds; then it waits
const waitForNetwork = 15000;
const rememberFrom = 1 << 20; // bytes: smaller ones are sent again after a reload
const rowsShown = 100;

// size writes bytes as the pages of storage do: a GB is 10⁹ of them.
export function size(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let u = 0;
  for (; n >= 1000 && u < units.length - 1; u++) n /= 1000;
  return `${n < 100 && n % 1 ? n.toFixed(1) : Math.round(n)} ${units[u]}`;
}

// modified is when the file was last changed, for the copy to say the same.
function modified(file) {
  const at = new Date(file?.lastModified ?? NaN);
  return at > 0 && at.getUTCFullYear() < 2200 ? { mtime: at.toISOString() } : {};
}

// Item is one upload. Its state is one of: queued, sending, waiting (for the
// network), done, exists, failed, cancelled.
class Item {
  constructor(file, path) {
    this.file = file;
    this.path = path;
    this.size = file?.size ?? 0;
    this.sent = 0;
    this.state = "queued";
    this.message = "";
    this.overwrite = false;
    this.upload = null;
  }
}

export class Uploads {
  #card; #options; #items = []; #paused = false; #active = 0; #drawing = 0; #rate = 0; #marks = [];

  constructor(card, options) {
    this.#card = card;
    this.#options = options;
    card.querySelector("[data-pause]").addEventListener("click", () => this.#togglePause());
    card.querySelector("[data-clear]").addEventListener("click", () => this.#clear());
    card.querySelector("[data-replace]").addEventListener("click", () => {
      for (const i of this.#items) if (i.state === "exists") this.#again(i, true);
    });
    addEventListener("online", () => this.#wake());
    addEventListener("beforeunload", (event) => { if (this.#busy()) event.preventDefault(); });
  }

  add(file, path) {
    this.#items.push(new Item(file, path));
    this.#changed();
    this.#fill();
  }

  addFolder(path) { this.#options.makeFolder(path).catch(() => this.#refuse(path, "the folder could not be made: there is no connection")); }

  addUnreadable(path) { this.#refuse(path, "the browser can't read it"); }

  #refuse(path, message) {
    const item = new Item(null, path);
    Object.assign(item, { state: "failed", message });
    this.#items.push(item);
    this.#changed();
  }

  #busy() { return this.#items.some((i) => ["queued", "sending", "waiting"].includes(i.state)); }

  // fill starts what may be sent at once.
  #fill() {
    if (this.#paused) return;
    for (const item of this.#items) {
      if (this.#active >= atOnce) return;
      if (item.state === "queued") this.#start(item);
    }
  }

  async #start(item) {
    item.state = "sending";
    this.#active++;
    this.#changed();
    item.upload ??= this.#make(item);
    if (!item.upload.url) {
      try {
        const before = await item.upload.findPreviousUploads();
        if (before.length > 0) item.upload.resumeFromPreviousUpload(before[0]);
      } catch { /* nothing is remembered: private mode */ }
    }
    // It may have been paused or cancelled meanwhile.
    if (item.state === "sending") item.upload.start();
  }

  #make(item) {
    return new Upload(item.file, {
      endpoint: this.#options.endpoint,
      headers: this.#options.headers,
      metadata: { path: item.path, overwrite: String(item.overwrite), ...modified(item.file) },
      retryDelays,
      // One request for a small file. A large one needs its address first: whoever
      // does not know it can't go on.
      uploadDataDuringCreation: item.size < rememberFrom,
      removeFingerprintOnSuccess: true,
      storeFingerprintForResuming: item.size >= rememberFrom,
      fingerprint: async () => ["ecolink", this.#options.endpoint, item.path, item.size, item.file.lastModified, item.overwrite].join(" "),
      onShouldRetry: (error) => this.#worthAnother(error),
      onProgress: (sent) => { item.sent = sent; this.#changed(); },
      onSuccess: () => this.#end(item, "done"),
      onError: (error) => this.#failed(item, error),
    });
  }

  // worthAnother tells what passes by itself from what does not. A conflict while
  // bytes are sent is only about where they go: tus asks and goes on from there.
  #worthAnother(error) {
    const status = error.originalResponse?.getStatus() ?? 0;
    if (status === 0) return navigator.onLine !== false;
    if (status === 409 || status === 423) return error.originalRequest?.getMethod() === "PATCH" && !/is there already/.test(error.originalResponse.getBody());
    return status >= 500 && status !== 507;
  }

  #failed(item, error) {
    const answer = error.originalResponse;
    const status = answer?.getStatus() ?? 0;
    let message = "";
    try {
      const said = JSON.parse(answer.getBody());
      message = said.error?.message ?? said.message;
    } catch { /* it said nothing that can be read */ }
    if (status === 0 || (status >= 500 && status !== 507)) {
      item.message = "no connection: it goes on by itself";
      this.#end(item, "waiting");
      setTimeout(() => this.#wake(item), waitForNetwork);
      return;
    }
    item.message = message || (status ? `the server answered ${status}` : error.message);
    if (status === 401) item.message = "you are signed out: sign in, in another tab, and try again";
    const there = status === 409 && /is there already/.test(message);
    // What is on the server of an upload that can't go on only takes up room.
    if (item.upload?.url && status !== 401) item.upload.abort(true).catch(() => {});
    item.upload = null;
    this.#end(item, there ? "exists" : "failed");
  }

  #end(item, state) {
    if (item.state === "sending") this.#active--;
    item.state = state;
    if (state === "done") {
      item.sent = item.size;
      item.upload = null;
      const cut = item.path.lastIndexOf("/");
      this.#options.finished(cut < 0 ? "" : item.path.slice(0, cut));
    }
    this.#changed();
    this.#fill();
  }

  #wake(only) {
    for (const i of this.#items) if (i.state === "waiting" && (!only || i === only)) Object.assign(i, { state: "queued", message: "" });
    this.#changed();
    this.#fill();
  }

  #again(item, overwrite) {
    Object.assign(item, { state: "queued", message: "", sent: 0, overwrite: item.overwrite || overwrite, upload: null });
    this.#changed();
    this.#fill();
  }

  #cancel(item) {
    item.upload?.abort(true).catch(() => {}); // else it is swept away in a day
    item.upload = null;
    this.#end(item, "cancelled");
  }

  #togglePause() {
    this.#paused = !this.#paused;
    if (this.#paused) {
      for (const i of this.#items) {
        if (i.state !== "sending") continue;
        i.upload.abort().catch(() => {});
        this.#active--;
        i.state = "queued";
      }
    }
    this.#changed();
    this.#fill();
  }

  #clear() {
    this.#items = this.#items.filter((i) => ["queued", "sending", "waiting"].includes(i.state));
    this.#changed();
  }

  // changed draws at most once in a frame, however many files there are.
  #changed() {
    this.#drawing ||= requestAnimationFrame(() => { this.#drawing = 0; this.#draw(); });
  }

  #draw() {
    const all = this.#items;
    this.#card.hidden = all.length === 0;
    const count = (...states) => all.filter((i) => states.includes(i.state)).length;
    const wanted = all.filter((i) => i.state !== "cancelled" && i.state !== "failed" && i.state !== "exists");
    const bytes = wanted.reduce((n, i) => n + i.size, 0);
    const sent = wanted.reduce((n, i) => n + i.sent, 0);
    const total = this.#card.querySelector("[data-total]");
    total.max = bytes || 1;
    total.value = bytes ? sent : count("done") ? 1 : 0;
    this.#measure(sent);
    const parts = [`${count("done")} of ${wanted.length} files`, `${size(sent)} of ${size(bytes)}`];
    if (this.#busy() && this.#rate > 0 && !this.#paused) parts.push(`${size(this.#rate)}/s`, `${left((1000 * (bytes - sent)) / this.#rate)} left`);
    if (this.#paused && this.#busy()) parts.push("paused");
    const bad = count("failed", "exists");
    if (bad) parts.push(bad === 1 ? "1 needs you" : `${bad} need you`);
    this.#card.querySelector("[data-summary]").textContent = parts.join(" · ");
    // In sight while it moves or needs somebody, and then out of the way.
    this.#card.classList.toggle("afloat", this.#busy() || bad > 0);
    const pause = this.#card.querySelector("[data-pause]");
    pause.textContent = this.#paused ? "Go on" : "Pause";
    pause.hidden = !this.#busy();
    this.#card.querySelector("[data-replace]").hidden = count("exists") < 2;
    this.#card.querySelector("[data-clear]").hidden = all.every((i) => ["queued", "sending", "waiting"].includes(i.state));
    this.#drawRows();
  }

  // measure smooths how fast it goes over the last few seconds.
  #measure(sent) {
    const now = performance.now();
    this.#marks.push([now, sent]);
    while (this.#marks.length > 2 && now - this.#marks[0][0] > 5000) this.#marks.shift();
    const [then, before] = this.#marks[0];
    this.#rate = now - then > 500 ? Math.max(0, (1000 * (sent - before)) / (now - then)) : 0;
  }

  // Rows are of what moves or needs somebody, then of the newest that are done.
  #drawRows() {
    const rank = { sending: 0, waiting: 0, exists: 1, failed: 1, queued: 2, done: 3, cancelled: 4 };
    const shown = this.#items.map((item, n) => [item, n]).sort(([a, n], [b, m]) => rank[a.state] - rank[b.state] || (a.state === "done" ? m - n : n - m)).slice(0, rowsShown);
    const list = this.#card.querySelector("[data-list]");
    list.replaceChildren(...shown.map(([item]) => this.#row(item)));
  }

  // row keeps its elements: a button must not be replaced under a click.
  #row(item) {
    const row = (item.row ??= this.#newRow(item));
    const { li, state, bar } = row;
    if (li.dataset.state !== item.state) li.dataset.state = item.state;
    bar.max = item.size || 1;
    bar.value = item.state === "done" ? bar.max : item.sent;
    bar.hidden = !["sending", "waiting", "queued"].includes(item.state);
    const words = {
      queued: this.#paused && item.sent ? `paused at ${size(item.sent)} of ${size(item.size)}` : "in line", done: size(item.size), cancelled: "cancelled",
      sending: `${size(item.sent)} of ${size(item.size)}`, waiting: item.message, exists: item.message, failed: item.message,
    };
    state.textContent = words[item.state];
    row.cancel.hidden = !["queued", "sending", "waiting"].includes(item.state);
    row.again.hidden = !(item.state === "failed" && item.file);
    row.replace.hidden = item.state !== "exists";
    return li;
  }

  #newRow(item) {
    const make = (name, props) => Object.assign(document.createElement(name), props);
    const button = (text, run) => {
      const b = make("button", { type: "button", className: "button small", textContent: text });
      b.setAttribute("aria-label", `${text} ${item.path}`);
      b.addEventListener("click", run);
      return b;
    };
    const li = make("li", {});
    const name = make("span", { className: "name wrap", textContent: item.path });
    const state = make("span", { className: "muted small wrap state" });
    const bar = make("progress", {});
    bar.setAttribute("aria-label", item.path);
    const row = {
      li, state, bar,
      cancel: button("Cancel", () => this.#cancel(item)),
      again: button("Try again", () => this.#again(item, false)),
      replace: button("Replace", () => this.#again(item, true)),
    };
    const words = make("div", { className: "words" });
    words.append(name, state);
    const line = make("div", { className: "line" });
    line.append(words, row.replace, row.again, row.cancel);
    li.append(line, bar);
    return row;
  }
}

// A browser that keeps nothing, as in private mode, resumes within a page only.
if (!defaultOptions.urlStorage) defaultOptions.urlStorage = { findAllUploads: async () => [], findUploadsByFingerprint: async () => [], removeUpload: async () => {}, addUpload: async () => "" };
