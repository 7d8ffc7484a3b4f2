// What was dropped onto a page: files, and folders with all that is in them.

// collect calls found.file(file, path) for each file, found.emptyFolder(path) for
// each folder that has nothing in it, and found.unreadable(path) for what the
// browser could not open. Entries must be taken before the first await: the
// browser empties the list when the event is over.
export async function collect(transfer, found) {
  const entries = [];
  const plain = [];
  for (const item of transfer.items ?? []) {
    if (item.kind !== "file") continue;
    const entry = item.webkitGetAsEntry?.();
    if (entry) entries.push(entry);
    else if (item.getAsFile()) plain.push(item.getAsFile());
  }
  for (const f of plain) found.file(f, f.name);
  for (const e of entries) await walk(e, "", found);
}

async function walk(entry, above, found) {
  const path = above ? `${above}/${entry.name}` : entry.name;
  try {
    if (entry.isFile) {
      found.file(await new Promise((ok, fail) => entry.file(ok, fail)), path);
      return;
    }
    const reader = entry.createReader();
    let any = false;
    for (;;) {
      // It gives a hundred at a time, and none at the end.
      const some = await new Promise((ok, fail) => reader.readEntries(ok, fail));
      if (some.length === 0) break;
      any = true;
      for (const e of some) await walk(e, path, found);
    }
    if (!any) found.emptyFolder(path);
  } catch {
    found.unreadable(path);
  }
}
