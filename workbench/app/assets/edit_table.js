// Each cell is a button of its own; a click anywhere else is no choice.
element.addEventListener("click", (event) => {
  const cell = event.target.closest("[data-row]");
  if (cell) trigger("click", { row: +cell.dataset.row, column: +cell.dataset.column });
});
