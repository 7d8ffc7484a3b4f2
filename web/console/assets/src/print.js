// Buttons that print the page: <button data-print>.
export function start() {
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-print]")) print();
  });
}
