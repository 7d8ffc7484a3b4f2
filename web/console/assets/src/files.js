// The files page: goes from folder to folder without leaving the page, so that
// uploads go on, and uploads what is chosen or dropped.
import { refresh as refreshTimes } from "./times.js";
import htmx from "./htmx.js";
import { morph } from "./morph.js";
import { collect } from "./picked.js";
import { Uploads } from "./uploads.js";

const page = document.getElementById("files");
const dialog = document.getElementById("dialog");
const browser = () => document.getElementById("browser");

// reveal shows what works only with scripts.
function reveal() {
  for (const e of page.querySelectorAll("[data-pick], [data-dropping]")) e.hidden = false;
}

// show puts a folder, as the server renders it, into the page.
function show(html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  const root = fresh.content.querySelector("#browser");
  if (!root) return false;
  const here = browser();
  here.dataset.path = root.dataset.path;
  here.dataset.title = root.dataset.title;
  morph(here, root);
  document.title = root.dataset.title;
  reveal();
  refreshTimes(here);
  htmx.process(here);
  return true;
}

const asPart = { "HX-Request": "true" };

async function go(url, push) {
  let answer;
  try {
    answer = await fetch(url, { headers: asPart, cache: "no-store" });
  } catch { /* no network: the browser's own page says so better */ }
  if (!answer?.ok || !show(await answer.text())) {
    if (push) location.href = url;
    return;
  }
  if (push) {
    history.pushState(null, "", url);
    scrollTo(0, 0);
  }
}

document.addEventListener("click", (event) => {
  const a = event.target.closest("a[data-go]");
  if (!a || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(a.href, true);
});
addEventListener("popstate", () => go(location.href, false));

// Questions are sent without leaving the page: uploads would end.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!dialog.contains(form)) return;
  event.preventDefault();
  if (form.dataset.busy) return;
  form.dataset.busy = "yes";
  try {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), headers: asPart });
    const html = await answer.text();
    if (answer.ok) {
      dialog.close();
      if (!show(html)) location.reload();
      return;
    }
    const body = dialog.querySelector("[data-body]");
    body.innerHTML = html;
    htmx.process(body);
    body.querySelector("input:not([type=hidden])")?.focus();
  } catch {
    delete form.dataset.busy; // no network: it can be sent again
  }
}, true);

let refreshing = 0;
function refreshSoon(folder) {
  const here = browser().dataset.path;
  const inside = here === "" || folder === here || folder.startsWith(here + "/");
  if (!inside || refreshing) return;
  refreshing = setTimeout(() => { refreshing = 0; go(location.href, false); }, 400);
}

const uploads = new Uploads(document.getElementById("uploads"), {
  endpoint: page.dataset.uploads,
  headers: { "X-CSRF-Token": page.dataset.csrf, "X-Ecolink-Account": page.dataset.account, Accept: "application/json" },
  finished: refreshSoon,
  makeFolder: async (path) => {
    const cut = path.lastIndexOf("/");
    const body = new URLSearchParams({
      csrf: page.dataset.csrf, for: page.dataset.account, path: cut < 0 ? "" : path.slice(0, cut), name: path.slice(cut + 1),
    });
    await fetch(page.dataset.folder, { method: "POST", body, headers: asPart });
    refreshSoon(path);
  },
});

const into = (name) => { const at = browser().dataset.path; return at ? `${at}/${name}` : name; };

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-pick]");
  if (button) document.getElementById(button.dataset.pick).click();
});
for (const id of ["pick-files", "pick-folder"]) {
  const input = document.getElementById(id);
  input.addEventListener("change", () => {
    for (const f of input.files) uploads.add(f, into(f.webkitRelativePath || f.name));
    input.value = "";
  });
}

// The whole page takes what is dropped; the card shows that it does.
let dragging = 0;
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
const mark = (on) => page.querySelector("[data-drop]")?.classList.toggle("dropping", on);
addEventListener("dragenter", (event) => { if (holdsFiles(event) && dragging++ === 0) mark(true); });
addEventListener("dragleave", (event) => { if (holdsFiles(event) && --dragging <= 0) { dragging = 0; mark(false); } });
addEventListener("dragover", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy";
});
addEventListener("drop", async (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  dragging = 0;
  mark(false);
  const base = browser().dataset.path;
  const at = (p) => (base ? `${base}/${p}` : p);
  await collect(event.dataTransfer, {
    file: (f, path) => uploads.add(f, at(path)),
    emptyFolder: (path) => uploads.addFolder(at(path)),
    unreadable: (path) => uploads.addUnreadable(at(path)),
  });
});

reveal();
