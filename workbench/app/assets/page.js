// The training scrubber. Listeners sit on the document, so they outlive every redraw of the tab; while a run
// trains, the scrubber is drawn anew with each grid, and goes back to where the visitor had left it.
(() => {
  const left = new Map(); // run -> images seen at the place it was left at; none: it follows the newest grid
  const frames = (player) => (player.framesParsed ??= JSON.parse(player.dataset.frames));

  function show(player, index) {
    const list = frames(player);
    const at = Math.max(0, Math.min(list.length - 1, index));
    const frame = list[at];
    const slider = player.querySelector("input[type=range]");
    const picture = player.querySelector("img");
    slider.value = String(at);
    slider.setAttribute("aria-valuetext", frame.label);
    picture.src = frame.src;
    picture.alt = `Grid of fixed seeds and prompts after ${frame.label}`;
    player.querySelector("output b").textContent = frame.label;
    player.querySelector(".wb-moment span").textContent = frame.says;
    for (const plot of (player.closest(".wb-run") ?? document).querySelectorAll(".wb-plot")) {
      const { left, right, low, high } = plot.dataset;
      const share = (frame.n - low) / (high - low);
      const cursor = plot.querySelector(".wb-cursor");
      cursor.hidden = share < 0 || share > 1;
      cursor.style.left = `${100 * (+left + share * (right - left))}%`;
    }
    preload(player);
  }

  function preload(player) {
    if (player.preloaded) return;
    player.preloaded = frames(player).map((frame) => Object.assign(new Image(), { src: frame.src }));
  }

  function remember(player) {
    const slider = player.querySelector("input[type=range]");
    if (+slider.value >= +slider.max) left.delete(player.dataset.run);
    else left.set(player.dataset.run, frames(player)[+slider.value].n);
  }

  function goBack(player) {
    player.dataset.ready = "";
    const at = frames(player).findIndex((frame) => frame.n === left.get(player.dataset.run));
    if (at >= 0) show(player, at);
  }

  new MutationObserver(() => {
    for (const player of document.querySelectorAll(".wb-player:not([data-ready])")) goBack(player);
  }).observe(document, { childList: true, subtree: true });

  function pause(player) {
    clearInterval(player.timer);
    player.timer = undefined;
    const button = player.querySelector("[data-play]");
    button.textContent = "▶";
    button.setAttribute("aria-label", "Play");
  }

  function play(player) {
    const slider = player.querySelector("input[type=range]");
    const last = +slider.max;
    if (+slider.value >= last) show(player, 0);
    const button = player.querySelector("[data-play]");
    button.textContent = "❚❚";
    button.setAttribute("aria-label", "Pause");
    player.timer = setInterval(() => {
      if (!player.isConnected) {
        clearInterval(player.timer);
        const again = document.querySelector(`.wb-player[data-run="${CSS.escape(player.dataset.run)}"]`);
        return again ? play(again) : undefined;
      }
      show(player, +slider.value + 1);
      remember(player);
      if (+slider.value >= last) pause(player);
    }, 250);
  }

  document.addEventListener("input", (event) => {
    const player = event.target.closest?.(".wb-player");
    if (!player) return;
    pause(player);
    show(player, +event.target.value);
    remember(player);
  });

  document.addEventListener("click", (event) => {
    const player = event.target.closest?.("[data-play]")?.closest(".wb-player");
    if (player) player.timer ? pause(player) : play(player);
  });
})();
