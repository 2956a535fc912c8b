"use strict";
// Latency distributions, drawn by uPlot on a scale of base-2 logarithms of seconds.
(() => {
  const HEIGHT = 240;
  const WHOLE = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11].flatMap((power) => [1, 2, 5].map((step) => step * 10 ** power));
  const charts = [];

  function time(seconds) {
    for (const [limit, factor, unit] of [[0.9995e-3, 1e6, "µs"], [0.9995, 1e3, "ms"], [60, 1, "s"], [3600, 1 / 60, "min"]]) {
      if (seconds < limit) return `${Number((seconds * factor).toPrecision(3))} ${unit}`;
    }
    return `${Number((seconds / 3600).toPrecision(3))} h`;
  }
  function ticks(low, high, width) {
    const every = (mantissas, minutes) => {
      const found = minutes.map((minute) => 60 * minute); // minutes and hours have round figures of their own
      for (let power = -8; power < 2; power += 1) {
        found.push(...mantissas.map((mantissa) => mantissa * 10 ** power).filter((seconds) => seconds < 60));
      }
      return found.map(Math.log2).filter((tick) => tick >= low && tick <= high).sort((one, other) => one - other);
    };
    const room = Math.max(width / 62, 2);
    for (const [mantissas, minutes] of [
      [[1, 1.5, 2, 3, 4, 5, 6, 8], [1, 2, 3, 5, 10, 20, 30, 60, 120, 180, 300, 600, 1200, 3000]],
      [[1, 2, 3, 5, 7], [1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 3000]],
      [[1, 2, 5], [1, 2, 5, 10, 30, 60, 120, 300, 600, 3000]],
      [[1, 3], [1, 5, 30, 120, 600, 3000]],
    ]) {
      const found = every(mantissas, minutes);
      if (found.length <= room) return found;
    }
    const found = every([1], [1, 10, 60, 600]);
    const step = Math.ceil(found.length / room);
    return found.filter((_, index) => index % step === 0);
  }
  function share(part, whole) { return `${((100 * part) / whole).toFixed(1)} %`; }

  class Chart {
    constructor(figure) {
      const { bars, marks } = JSON.parse(figure.querySelector("script").textContent);
      this.bars = bars;
      this.marks = marks;
      this.calls = bars.reduce((sum, bar) => sum + bar[2], 0);
      this.place = figure.querySelector(".canvas");
      this.caption = figure.querySelector("figcaption");
      this.usual = this.caption.textContent;
      this.draw();
    }
    draw(width = this.place.clientWidth) {
      if (this.plot) this.plot.destroy();
      const colours = getComputedStyle(document.documentElement);
      const colour = (name) => colours.getPropertyValue(name).trim();
      const { bars } = this;
      const low = bars[0][0];
      const high = bars[bars.length - 1][1];
      const margin = Math.max((high - low) * 0.03, (1.2 - (high - low)) / 2); // an octave or more: it has round figures
      const axis = { stroke: colour("--soft"), font: "12px system-ui, sans-serif", ticks: { show: false } };
      this.plot = new uPlot(
        {
          width,
          height: HEIGHT,
          legend: { show: false },
          padding: [12, 22, 0, 0],
          scales: {
            x: { time: false, range: [low - margin, high + margin] },
            y: { range: (_, __, most) => [0, most * 1.16] },
          },
          axes: [
            { ...axis, size: 34, grid: { show: false }, splits: (plot, _, from, to) => ticks(from, to, plot.bbox.width / devicePixelRatio), values: (_, found) => found.map((tick) => time(2 ** tick)) },
            { ...axis, grid: { stroke: colour("--line"), width: 1 }, size: 58, incrs: WHOLE, values: (_, found) => found.map((count) => count.toLocaleString("en")) },
          ],
          series: [{}, { fill: colour("--bar"), paths: (plot) => this.paths(plot), points: { show: false } }],
          cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
          hooks: {
            draw: [(plot) => this.percentiles(plot, colour("--mark"), colour("--back"))],
            setCursor: [(plot) => this.tell(plot)],
          },
        },
        [bars.map((bar) => (bar[0] + bar[1]) / 2), bars.map((bar) => bar[2])],
        this.place,
      );
    }
    paths(plot) {
      const path = new Path2D();
      const floor = plot.valToPos(0, "y", true);
      for (const [low, high, calls] of this.bars) {
        if (!calls) continue;
        const left = Math.round(plot.valToPos(low, "x", true));
        const right = Math.round(plot.valToPos(high, "x", true));
        const height = Math.max(floor - plot.valToPos(calls, "y", true), devicePixelRatio); // one call of a million is seen
        path.rect(left, floor - height, Math.max(right - left - devicePixelRatio, 1), height);
      }
      return { fill: path };
    }
    percentiles(plot, colour, back) {
      const { ctx, bbox } = plot;
      const gap = 4 * devicePixelRatio;
      const line = 14 * devicePixelRatio;
      const marks = this.marks.map(([name, at]) => [name, plot.valToPos(at, "x", true)]);
      ctx.save();
      ctx.strokeStyle = colour;
      ctx.lineWidth = 1.5 * devicePixelRatio;
      ctx.setLineDash([gap, 3 * devicePixelRatio]);
      for (const [, x] of marks) {
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
      }
      ctx.font = `600 ${12 * devicePixelRatio}px system-ui, sans-serif`;
      ctx.textBaseline = "top";
      ctx.textAlign = "left";
      let free = -Infinity;
      let row = 0;
      for (const [name, x] of marks) { // over all lines, and each below one that it would cover
        const width = ctx.measureText(name).width;
        const beyond = x + gap + width > bbox.left + bbox.width;
        const start = beyond ? x - gap - width : x + gap;
        row = start < free ? row + 1 : 0;
        free = start + width + gap;
        ctx.fillStyle = back;
        ctx.fillRect(start - gap / 2, bbox.top + row * line, width + gap, line);
        ctx.fillStyle = colour;
        ctx.fillText(name, start, bbox.top + row * line);
      }
      ctx.restore();
    }
    tell(plot) {
      const at = plot.cursor.left < 0 ? NaN : plot.posToVal(plot.cursor.left, "x");
      const bar = this.bars.find(([low, high]) => at > low && at <= high);
      if (!bar) {
        this.caption.textContent = this.usual;
        return;
      }
      const [low, high, calls] = bar;
      this.caption.textContent = `${time(2 ** low)} to ${time(2 ** high)}: ${calls.toLocaleString("en")} calls, ${share(calls, this.calls)}`;
    }
  }

  document.querySelectorAll(".chart").forEach((figure) => charts.push(new Chart(figure)));
  keepDrawn(charts);
})();
