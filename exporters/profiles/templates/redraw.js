"use strict";
// What uPlot has drawn for one width and one set of colours is drawn anew for others, and for paper.
function keepDrawn(charts) {
  const PAPER = 660; // pixels: what fits between the margins of A4 and of letter
  const redraw = (width) => charts.forEach((chart) => chart.draw(width));
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return; // a phone's address bar comes and goes
    width = innerWidth;
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.paper = "";
    redraw(PAPER);
  });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.paper;
    redraw();
  });
}
