// The slider beside a number of hours: <input type=range data-slides="id">.
export function start() {
  bind(document);
  document.addEventListener("htmx:afterSwap", (event) => bind(event.detail.target));
}

function bind(root) {
  for (const slider of root.querySelectorAll("input[type=range][data-slides]")) {
    const number = document.getElementById(slider.dataset.slides);
    if (!number || slider.dataset.bound) continue;
    slider.dataset.bound = "yes";
    slider.value = number.value;
    slider.addEventListener("input", () => {
      number.value = slider.value;
      number.dispatchEvent(new Event("input", { bubbles: true }));
    });
    number.addEventListener("input", () => { slider.value = number.value; });
  }
}
