// The live tail of an instance's output: <pre data-log="/…/logs">.
const maxLines = 2000;

export function start() {
  for (const e of document.querySelectorAll("[data-log]")) tail(e);
}

function tail(e) {
  const events = new EventSource(e.dataset.log);
  // A stream begins, also after it was cut, with the lines that are kept.
  events.addEventListener("begin", () => { e.textContent = ""; });
  events.addEventListener("lines", (message) => {
    const atEnd = e.scrollHeight - e.scrollTop - e.clientHeight < 24;
    const added = document.createDocumentFragment();
    for (const line of JSON.parse(message.data)) {
      const row = document.createElement("span");
      row.textContent = line.text + (line.partial ? "" : "\n");
      if (line.stream === "stderr") row.className = "stderr";
      row.title = line.time;
      added.append(row);
    }
    e.append(added);
    while (e.childElementCount > maxLines) e.firstElementChild.remove();
    e.dataset.empty = e.childElementCount === 0;
    if (atEnd) e.scrollTop = e.scrollHeight;
  });
  events.addEventListener("end", () => events.close());
  e.scrollTop = e.scrollHeight;
  addEventListener("pagehide", () => events.close(), { once: true });
}
