// The results, and the view of one image. `server.view` gives the view as HTML in which every name is escaped.
const view = document.createElement("dialog");
view.className = "vse view";
view.tabIndex = -1;
view.setAttribute("aria-label", "One image");
(element.closest(".gradio-container") ?? document.body).append(view); // for its fonts and colours
let viewed = null;
const pictures = () => element.querySelector(".pictures"); // a new list with every answer
let grown = null; // the list that more images were asked for

const show = async (row) => {
  viewed = row;
  const html = await server.view(row);
  if (viewed !== row) return; // another one was asked for meanwhile
  const held = view.open && document.activeElement.dataset.step; // keeps the focus
  view.innerHTML = html;
  if (!view.open) view.showModal();
  (view.querySelector(`[data-step="${held || 1}"]`) ?? view).focus();
};
const step = (by) => {
  const rows = [...element.querySelectorAll("[data-view]")].map((one) => Number(one.dataset.view));
  const next = rows[rows.indexOf(viewed) + by];
  if (next !== undefined) show(next);
};
const find = (row) => {
  view.close();
  grown = pictures(); // moving there is no scrolling
  trigger("select", {row: Number(row)});
  element.scrollIntoView({block: "start"}); // the new images begin there
};

element.addEventListener("click", (event) => {
  const word = event.target.closest("[data-word]");
  if (word) {
    const chosen = word.ariaPressed === "true" ? null : word.dataset.word;
    for (const one of element.querySelectorAll("[data-word]")) one.ariaPressed = String(one.dataset.word === chosen);
    for (const map of element.querySelectorAll("[data-map]")) map.hidden = map.dataset.map !== chosen;
  }
  const picture = event.target.closest("[data-view]");
  if (picture) show(Number(picture.dataset.view));
  const similar = event.target.closest("[data-row]");
  if (similar) find(similar.dataset.row);
});
view.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (event.target === view || button?.hasAttribute("data-close")) view.close(); // the first: beside the view
  else if (button?.dataset.row) find(button.dataset.row);
  else if (button?.dataset.step) step(Number(button.dataset.step));
  else if (button?.dataset.copy) {
    getSelection().selectAllChildren(view.querySelector("code")); // to be copied by hand where the browser refuses
    await navigator.clipboard?.writeText(button.dataset.copy);
    button.textContent = navigator.clipboard ? "Copied" : "Press Ctrl+C";
  }
});
view.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});

// who scrolls to the button for more images need not press it
document.addEventListener("scroll", () => {
  const more = document.querySelector("#more button, button#more");
  if (!more?.offsetParent || pictures() === grown || more.getBoundingClientRect().top > innerHeight) return;
  grown = pictures();
  more.click();
}, {passive: true});

// an image that is dropped anywhere, or pasted, goes the way of the upload button
const search = (files) => {
  const input = document.querySelector("input[type=file]");
  if (!input || !files.length) return;
  const chosen = new DataTransfer();
  chosen.items.add(files[0]);
  input.files = chosen.files;
  input.dispatchEvent(new Event("change", {bubbles: true}));
};
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  search(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => search(event.clipboardData.files));
