element.addEventListener("click", (event) => {
  const span = event.target.closest("[data-start]");
  if (!span) return;
  for (const one of element.querySelectorAll("[data-start]")) one.ariaPressed = String(one === span && one.dataset.start !== "");
  trigger("select", {start: span.dataset.start, end: span.dataset.end});
});
