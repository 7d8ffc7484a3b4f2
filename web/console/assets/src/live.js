// Parts of a page that the server keeps up to date: <div data-live="/…/events">.
// Each message is the part's new content.
import htmx from "./htmx.js";
import { morph } from "./morph.js";
import { refresh } from "./times.js";

export function start() {
  for (const e of document.querySelectorAll("[data-live]")) follow(e);
}

function follow(e) {
  const events = new EventSource(e.dataset.live);
  events.addEventListener("content", (message) => {
    const fresh = document.createElement("template");
    fresh.innerHTML = message.data;
    morph(e, fresh.content);
    refresh(e);
    htmx.process(e);
  });
  events.addEventListener("end", () => events.close());
  events.addEventListener("signed-out", () => location.reload());
  // A browser gives up for good when an answer is not a stream, as while the
  // server restarts behind a proxy.
  events.addEventListener("error", () => {
    if (events.readyState !== EventSource.CLOSED) return;
    setTimeout(() => follow(e), 3000);
  });
  addEventListener("pagehide", () => events.close(), { once: true });
}
