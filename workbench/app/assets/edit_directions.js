// A drag never waits for the page: number and slider change in the browser, and the strengths of all sliders go
// to the server together, so that a late answer leaves none out. Opened groups stay open in a redrawn list.
const opened = new Map();
// A slider's own value is rounded to its steps and held within its ends: only one that was moved counts by it,
// the others by the strength that they came with.
const moved = new Map();
const strength = (range) => moved.get(range.dataset.name) ?? +range.getAttribute("value");
const send = () => {
  const values = {};
  for (const range of element.querySelectorAll("input[type=range]"))
    if (strength(range) !== 0) values[range.dataset.name] = strength(range);
  trigger("input", { values });
};
const move = (range) => {
  moved.set(range.dataset.name, +range.value);
  say(range);
  send();
};
const say = (range) => {
  const value = Math.abs(strength(range)) < 1e-9 ? 0 : strength(range);
  range.closest(".wb-direction").querySelector("output").textContent =
    (value < 0 ? "" : "+") + value.toFixed(2);
};
element.addEventListener("input", (event) => {
  if (event.target.type !== "range") return;
  event.stopPropagation();
  move(event.target);
});
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-reset]");
  if (!button) return;
  const range = button.closest(".wb-direction").querySelector("input");
  range.value = 0;
  move(range);
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
  moved.clear();
  for (const range of element.querySelectorAll("input[type=range]")) {
    range.value = range.getAttribute("value");
    say(range);
  }
  for (const group of element.querySelectorAll("details"))
    if (opened.has(group.dataset.group)) group.open = opened.get(group.dataset.group);
});
