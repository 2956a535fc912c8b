"use strict";
// A flame graph that is drawn already: this makes it answer to pointer, keyboard and search.
document.querySelectorAll(".flame").forEach((flame) => {
  const NARROW = 28; // pixels: a name in less says nothing
  const graph = flame.querySelector(".graph");
  const status = flame.querySelector(".status");
  const search = flame.querySelector("input");
  const reset = flame.querySelector("button");
  const interval = Number(flame.dataset.interval);
  const frames = [...graph.children].map((box) => ({
    box,
    name: nameOf(box.querySelector("text")),
    depth: Number(box.getAttribute("y")),
    at: Number(box.dataset.at),
    samples: Number(box.dataset.samples),
    own: Number(box.dataset.own),
    callees: [],
  }));
  const root = frames[0];
  const whole = root.samples;
  const ofBox = new Map(frames.map((frame) => [frame.box, frame]));
  let zoomed = root;
  let current = root;
  let found = "";

  const path = [];
  for (const frame of frames) { // each stands before its callees
    while (path.length && path[path.length - 1].depth >= frame.depth) path.pop();
    frame.caller = path[path.length - 1];
    if (frame.caller) frame.caller.callees.push(frame);
    path.push(frame);
    frame.box.setAttribute("tabindex", "-1");
    frame.box.setAttribute("role", "button");
    frame.box.setAttribute("aria-label", describe(frame));
  }
  for (const frame of frames) frame.callees.sort((one, other) => one.at - other.at);
  root.box.setAttribute("tabindex", "0");
  flame.dataset.live = "";

  function nameOf(text) {
    const module = text.querySelector(".module");
    return module ? `${module.textContent}:${text.firstChild.textContent}` : text.textContent;
  }
  function seconds(samples) {
    const time = samples * interval;
    if (time < 1) return `${Number((1000 * time).toPrecision(3))} ms`;
    if (time < 60) return `${Number(time.toPrecision(3))} s`;
    return `${Math.floor(time / 60)} min ${Math.floor(time % 60)} s`;
  }
  function count(number, one, many) { return `${number.toLocaleString("en")} ${number === 1 ? one : many}`; }
  function share(samples) { return `${((100 * samples) / whole).toFixed(1)} %`; }
  function describe(frame) {
    const own = frame.own === frame.samples || !frame.own ? "" : `, itself ${share(frame.own)}`;
    return `${frame.name}: ${share(frame.samples)}, ${seconds(frame.samples)}, ${count(frame.samples, "sample", "samples")}${own}`;
  }
  function inside(frame, outer) { return frame.at >= outer.at && frame.at + frame.samples <= outer.at + outer.samples; }

  function place() {
    const width = graph.clientWidth;
    for (const frame of frames) {
      const above = frame.depth < zoomed.depth && inside(zoomed, frame);
      const below = frame.depth >= zoomed.depth && inside(frame, zoomed);
      const part = above ? 1 : frame.samples / zoomed.samples;
      frame.box.classList.toggle("away", !above && !below);
      frame.box.classList.toggle("above", above);
      frame.box.classList.toggle("narrow", part * width < NARROW);
      if (!above && !below) continue;
      frame.box.setAttribute("x", above ? "0%" : `${(100 * (frame.at - zoomed.at)) / zoomed.samples}%`);
      frame.box.setAttribute("width", `${100 * part}%`);
    }
    reset.disabled = zoomed === root;
  }
  function zoom(frame) {
    zoomed = frame;
    place();
    tell(frame);
  }
  function tell(frame) { status.textContent = frame === root ? found || describe(root) : describe(frame); }
  function focus(frame) {
    if (!frame || frame.box.classList.contains("away")) return;
    current.box.setAttribute("tabindex", "-1");
    current = frame;
    frame.box.setAttribute("tabindex", "0");
    frame.box.focus({ preventScroll: false });
    tell(frame);
  }
  function beside(frame, step) {
    const row = frames.filter((other) => other.depth === frame.depth && !other.box.classList.contains("away"));
    row.sort((one, other) => one.at - other.at);
    return row[row.indexOf(frame) + step];
  }
  function zoomOut() {
    const from = zoomed;
    if (from === root) return;
    zoom(root);
    focus(from);
  }

  graph.addEventListener("pointerover", (event) => {
    const box = event.target.closest(".graph > svg");
    if (box) tell(ofBox.get(box));
  });
  graph.addEventListener("pointerleave", () => tell(zoomed));
  graph.addEventListener("click", (event) => {
    const box = event.target.closest(".graph > svg");
    if (!box) return;
    zoom(ofBox.get(box));
    focus(ofBox.get(box));
  });
  graph.addEventListener("keydown", (event) => {
    const moves = {
      ArrowUp: () => focus(current.caller),
      ArrowDown: () => focus(current.callees[0]),
      ArrowLeft: () => focus(beside(current, -1)),
      ArrowRight: () => focus(beside(current, 1)),
      Home: () => focus(root),
      Enter: () => zoom(current),
      " ": () => zoom(current),
      Escape: zoomOut,
    };
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    move();
  });
  reset.addEventListener("click", zoomOut);
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    let samples = 0;
    let covered = -1; // up to where in samples a hit that is counted reaches: one inside another counts once
    const matching = frames.filter((frame) => {
      const hit = wanted !== "" && frame !== root && frame.name.toLowerCase().includes(wanted);
      frame.box.classList.toggle("hit", hit);
      return hit;
    });
    matching.sort((one, other) => one.at - other.at || other.samples - one.samples);
    for (const frame of matching) {
      if (frame.at < covered) continue;
      samples += frame.samples;
      covered = frame.at + frame.samples;
    }
    if (wanted === "") found = "";
    else if (!matching.length) found = "no box has that in its name";
    else found = `${count(matching.length, "box", "boxes")}, ${share(samples)} of the samples`;
    tell(root);
  });
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || search.value === "") return;
    search.value = "";
    search.dispatchEvent(new Event("input"));
  });
  new ResizeObserver(place).observe(graph);
  place();
  tell(root);
});
