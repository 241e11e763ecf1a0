// Held down by pointer, space bar or Enter, the picture before stands in the place of the one after.
const stage = () => document.getElementById("edit-stage");
const hold = element.querySelector("[data-hold]");
const pair = element.querySelector("[data-pair]");
const show = (held) => {
  stage().dataset.held = held ? "yes" : "";
};
hold.addEventListener("pointerdown", (event) => {
  hold.setPointerCapture(event.pointerId); // a finger may slip off the button
  show(true);
});
hold.addEventListener("keydown", (event) => {
  if (event.key === " " || event.key === "Enter") show(true);
});
for (const name of ["pointerup", "pointercancel", "lostpointercapture", "keyup", "blur"])
  hold.addEventListener(name, () => show(false));
hold.addEventListener("contextmenu", (event) => event.preventDefault());
pair.addEventListener("click", () => {
  const on = stage().dataset.pair !== "yes";
  stage().dataset.pair = on ? "yes" : "";
  pair.setAttribute("aria-pressed", String(on));
});
