// Buttons that copy: <button data-copy="id of what to copy">.
export function start() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    const before = button.textContent;
    button.textContent = (await copy(source)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = before; }, 2000);
  });
}

async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.value ?? source.textContent);
    return true;
  } catch { // no HTTPS, or not allowed: leave it selected
    source.focus();
    if (source.select) source.select();
    else getSelection().selectAllChildren(source);
    return false;
  }
}
