"use strict";
// Curves, drawn by uPlot: a line for each candidate, and as a band between what its rounds were.
(() => {
  const HEIGHT = 320;
  const COLOURS = 10;
  const curves = [];

  function text(number) {
    if (number === null || number === undefined) return "-";
    if (number !== 0 && (Math.abs(number) < 1e-3 || Math.abs(number) >= 1e9)) return number.toExponential(2);
    return Number(number.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 });
  }

  class Plot {
    constructor(figure) {
      const data = JSON.parse(figure.querySelector("script").textContent);
      Object.assign(this, data);
      this.place = figure.querySelector(".canvas");
      this.caption = figure.querySelector("figcaption");
      this.usual = this.caption.textContent;
      this.at = [...new Set(this.lines.flatMap((line) => line.points.map((point) => point[0])))].sort((one, other) => one - other);
      this.rows = this.lines.map((line) => {
        const known = new Map(line.points.map((point) => [point[0], point]));
        return [1, 2, 3].map((part) => this.at.map((x) => known.get(x)?.[part] ?? null));
      });
      const positive = (numbers) => numbers.every((number) => number === null || number > 0);
      this.x.logarithmic = this.x.logarithmic && positive(this.at);
      this.y.logarithmic = this.y.logarithmic && this.rows.every((row) => row.every(positive));
      this.draw();
    }
    draw(width = this.place.clientWidth) {
      if (this.plot) this.plot.destroy();
      const colours = getComputedStyle(document.documentElement);
      const colour = (name) => colours.getPropertyValue(name).trim();
      const axis = { stroke: colour("--soft"), font: "12px system-ui, sans-serif", ticks: { show: false } };
      const grid = { stroke: colour("--line"), width: 1 };
      const series = [{}];
      const bands = [];
      const data = [this.at];
      this.rows.forEach(([middle, low, high], number) => {
        const stroke = colour(`--line${number % COLOURS}`);
        series.push({ stroke, width: 2, dash: number < COLOURS ? [] : [6, 4], spanGaps: true, points: { show: true, size: 6, fill: stroke } });
        data.push(middle);
        if (!low.some((value) => value !== null)) return;
        const edge = { width: 0, stroke: "transparent", points: { show: false }, spanGaps: true };
        series.push({ ...edge }, { ...edge });
        data.push(high, low);
        bands.push({ series: [series.length - 2, series.length - 1], fill: `${stroke}2b` });
      });
      const logarithmic = { distr: 3, log: 10 };
      this.plot = new uPlot(
        {
          width,
          height: HEIGHT,
          legend: { show: false },
          padding: [12, 22, 0, 0],
          bands,
          scales: {
            x: { time: false, ...(this.x.logarithmic ? { ...logarithmic, range: () => this.range() } : {}) },
            y: this.y.logarithmic ? logarithmic : { range: (_, __, most) => [0, most > 0 ? most * 1.08 : 1] },
          },
          axes: [
            { ...axis, size: 34, grid: { ...grid, show: false }, splits: (plot) => this.splits(plot.bbox.width / devicePixelRatio), filter: (_, found) => found, values: (_, found) => found.map(text) },
            { ...axis, size: 70, grid, values: (_, found) => found.map((value) => (value === null ? "" : text(value))) },
          ],
          series,
          cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
          hooks: { setCursor: [(plot) => this.tell(plot)] },
        },
        data,
        this.place,
      );
    }
    range() {
      const [low, high] = [this.at[0], this.at[this.at.length - 1]];
      return low < high ? [low, high] : [low / 2, high * 2];
    }
    splits(width) { // where something was measured, as many of it as there is room for
      const [low, high] = this.x.logarithmic ? this.range() : [this.at[0], this.at[this.at.length - 1]];
      const scale = this.x.logarithmic ? Math.log : (value) => value;
      const room = ((scale(high) - scale(low)) * 52) / width || 0;
      let free = -Infinity;
      return this.at.filter((x) => {
        if (scale(x) < free) return false;
        free = scale(x) + room;
        return true;
      });
    }
    tell(plot) {
      const index = plot.cursor.left < 0 ? null : plot.cursor.idx;
      if (index === null || index === undefined) {
        this.caption.textContent = this.usual;
        return;
      }
      const found = this.lines.map((line, number) => `${line.name} ${text(this.rows[number][0][index])}`);
      this.caption.textContent = `${this.x.name} ${text(this.at[index])}: ${found.join(", ")}`;
    }
  }

  document.querySelectorAll(".curve").forEach((figure) => curves.push(new Plot(figure)));
  keepDrawn(curves);
})();
