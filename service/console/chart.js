// Small charts over time, drawn by uPlot in the page's own colours.

import uPlot from "./vendor/uplot.js";
import { element } from "./elements.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const charts = new Set();

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Horizontal lines, each with its name, across the plot. */
function drawLimits(limits) {
  return (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = colour("--bad");
    ctx.fillStyle = colour("--bad");
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textAlign = "left";
    ctx.textBaseline = "bottom";
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    for (const { value, name } of limits()) {
      const y = plot.valToPos(value, "y", true);
      if (y < bbox.top || y > bbox.top + bbox.height) continue;
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      ctx.fillText(name, bbox.left + 4 * devicePixelRatio, y - 2 * devicePixelRatio);
    }
    ctx.restore();
  };
}

/** Powers of ten alone: the lines between them would hide the curves. */
function decades(_plot, _axis, low, high) {
  const found = [];
  for (let power = Math.ceil(Math.log10(low)); power <= Math.log10(high); power += 1) found.push(10 ** power);
  return found;
}

export class Chart {
  /** `series` are names; the first is drawn in the accent colour. `limits` gives {value, name}. */
  constructor(parent, { series, limits = () => [], height = 88, logarithmic = false, label }) {
    this.holder = element("div", { class: "chart", role: "img", "aria-label": label });
    parent.append(this.holder);
    this.options = { series, limits, height, logarithmic };
    this.data = [[], ...series.map(() => [])];
    this.plot = null;
    new ResizeObserver(() => this.resize()).observe(this.holder);
    charts.add(this);
  }

  /** Columns: times in Unix seconds, then one a series. */
  show(data, label) {
    this.data = data;
    if (label) this.holder.setAttribute("aria-label", label);
    if (this.plot) this.plot.setData(data);
    else this.draw();
  }

  resize() {
    const width = this.holder.clientWidth;
    if (this.plot && width) this.plot.setSize({ width, height: this.options.height });
    else if (width) this.draw();
  }

  draw() {
    const width = this.holder.clientWidth;
    if (!width || !this.data[0].length) return;
    this.plot?.destroy();
    const { series, limits, height, logarithmic } = this.options;
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const range = (_, low, high) => {
      const values = [low, high, ...limits().map((each) => each.value)].filter((each) => each !== null && Number.isFinite(each));
      if (!values.length) return [0, 1];
      if (logarithmic) return [Math.min(0.01, ...values), Math.max(200, ...values) * 2];
      const least = Math.min(0, ...values);
      return [least, Math.max(...values, least + 1e-9) * 1.12 || 1];
    };
    this.plot = new uPlot(
      {
        width,
        height,
        cursor: { show: false },
        legend: { show: false },
        padding: [8, 6, 0, 0],
        scales: { x: { time: true }, y: { range, distr: logarithmic ? 3 : 1 } },
        axes: [{ ...axis, size: 22, space: 80 }, { ...axis, size: 46, space: 28, ...(logarithmic ? { splits: decades } : {}) }],
        series: [{}, ...series.map((name, index) => ({ label: name, stroke: colour(index ? "--second" : "--accent"), width: 2, points: { show: (plot) => plot.data[0].length < 3 }, spanGaps: false }))],
        hooks: { draw: [drawLimits(limits)] },
      },
      this.data,
      this.holder,
    );
  }
}

// A canvas keeps the colours that it was drawn with.
dark.addEventListener("change", () => charts.forEach((chart) => chart.draw()));
