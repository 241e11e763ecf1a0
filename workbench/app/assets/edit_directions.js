// A drag never waits for the page: number and slider change in the browser, and the strengths of all sliders go
// to the server together, so that a late answer leaves none out. Opened groups stay open in a redrawn list.
const opened = new Map();
const send = () => {
  const values = {};
  for (const range of element.querySelectorAll("input[type=range]"))
    if (+range.value !== 0) values[range.dataset.name] = +range.value;
  trigger("input", { values });
};
const say = (range) => {
  const value = Math.abs(+range.value) < 1e-9 ? 0 : +range.value;
  range.closest(".wb-direction").querySelector("output").textContent =
    (value < 0 ? "" : "+") + value.toFixed(2);
};
element.addEventListener("input", (event) => {
  if (event.target.type !== "range") return;
  event.stopPropagation();
  say(event.target);
  send();
});
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-reset]");
  if (!button) return;
  const range = button.closest(".wb-direction").querySelector("input");
  range.value = 0;
  say(range);
  send();
});
element.addEventListener(
  "toggle",
  (event) => {
    if (event.target.dataset?.group) opened.set(event.target.dataset.group, event.target.open);
  },
  true,
);
// The page keeps the elements and changes their attributes; a slider that was moved no longer follows its own.
watch("value", () => {
  for (const range of element.querySelectorAll("input[type=range]")) {
    range.value = range.getAttribute("value");
    say(range);
  }
  for (const group of element.querySelectorAll("details"))
    if (opened.has(group.dataset.group)) group.open = opened.get(group.dataset.group);
});
