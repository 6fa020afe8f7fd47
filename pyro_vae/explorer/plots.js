// Painting: images, dots, curves and bars on canvases. Nothing here knows what is chosen.
"use strict";

const colours = ["#1f77b4", "#e377c2", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#bcbd22", "#7f7f7f",
  "#17becf", "#d4a017"];
const colourOf = (label) => (label === null ? "#888888" : colours[label % colours.length]);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function number(value, digits = 1) {
  if (value === Infinity) return "∞";
  if (value === -Infinity) return "−∞";
  return Number.isFinite(value) ? value.toFixed(digits).replace("-", "−") : "–";
}

/** A new square canvas. */
function square(side) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  return canvas;
}

/** A square canvas with a pixel for each value; `rgba` gives its colour. */
function pixelCanvas(values, rgba) {
  const side = Math.sqrt(values.length);
  const canvas = square(side);
  const data = canvas.getContext("2d").createImageData(side, side);
  values.forEach((v, i) => data.data.set(rgba(v), 4 * i));
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

/** Paint 28 x 28 grey levels on a canvas. */
function paint(canvas, pixels) {
  const small = pixelCanvas(pixels, (v) => [255 * v, 255 * v, 255 * v, 255]);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

/** Clear a plot, at the screen's own resolution; its sizes are in CSS pixels. */
function cleared(canvas, height) {
  const width = canvas.clientWidth || canvas.width;
  const scale = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [width * scale, height * scale];
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.font = "13px system-ui, sans-serif";
  return { context, width, height };
}

/** Round numbers from low to high: about four. */
function ticks(low, high) {
  const rough = Math.max(high - low, 1e-6) / 4;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((times) => times * unit >= rough);
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  return { digits: step < 1 ? 1 : 0, at: Array.from({ length: count }, (_, i) => (first + i) * step) };
}

const MARGIN = 52; // left of a plot, for its numbers

/** An empty plot with an axis in nats, and where a value and a share of the width lie on it. */
function nats(canvas, height, low, high) {
  const plot = cleared(canvas, height);
  const { context, width } = plot;
  const up = (v) => 12 + ((high - v) / Math.max(high - low, 1e-6)) * (height - 34);
  const across = (share) => MARGIN + 6 + share * (width - MARGIN - 14);
  const { at, digits } = ticks(low, high);
  for (const v of at) {
    context.fillStyle = colour("--line");
    context.fillRect(MARGIN, up(v), width - MARGIN, 1);
    context.fillStyle = colour("--soft");
    context.fillText(number(v, digits), 6, up(v) + 4);
  }
  return { ...plot, up, across };
}

/** A line through points [across, up], or several. */
function lines(context, paths, stroke) {
  context.strokeStyle = stroke;
  context.lineWidth = 2;
  for (const path of paths) {
    context.beginPath();
    path.forEach((point) => context.lineTo(...point));
    context.stroke();
  }
}

/**
 * Log weights as they are drawn, their running estimate, the refined value where it is known, and at
 * the right edge the estimates of the runs before.
 */
function plotWeights(canvas, weights, refined, before) {
  const values = [...weights, ...before, ...(Number.isFinite(refined) ? [refined] : [])];
  if (!values.length) {
    const { context, width, height } = cleared(canvas, 220);
    context.fillStyle = colour("--soft");
    context.fillText("No sample is drawn yet.", width / 2 - 70, height / 2);
    return;
  }
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(0.06 * (high - low), 0.5);
  const { context, width, height, up, across } = nats(canvas, 220, low - room, high + room);
  context.fillStyle = colour("--guide");
  weights.forEach((v, k) => context.fillRect(across(k / 99) - 2, up(v) - 2, 4, 4));
  const estimates = weights.map((_, k) => [across(k / 99), up(logMean(weights.slice(0, k + 1)))]);
  lines(context, [estimates, ...before.map((v) => [[width - 8, up(v)], [width, up(v)]])], colour("--ink"));
  if (Number.isFinite(refined)) {
    context.setLineDash([6, 4]);
    lines(context, [[[MARGIN, up(refined)], [width, up(refined)]]], colour("--posterior"));
    context.setLineDash([]);
    context.fillStyle = colour("--posterior");
    const wide = context.measureText("refined").width;
    context.clearRect(MARGIN + 6, up(refined) - 17, wide + 4, 14); // no dot hides the word
    context.fillText("refined", MARGIN + 8, up(refined) - 5);
  }
  context.fillStyle = colour("--soft");
  context.fillText("nats", 6, height - 6);
  context.fillText("sample 1", MARGIN, height - 6);
  context.fillText("100", width - 26, height - 6);
}

/** Curves over t from 0 to 1, in nats: lists of [t, value]. A line says where t is. */
function plotCurves(canvas, curves, t) {
  const values = curves.flat().map(([, v]) => v);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const { context, width, height, up, across } = nats(canvas, 220, low, Math.max(high, low + 1));
  lines(context, curves.map((curve) => curve.map(([s, v]) => [across(s), up(v)])), colour("--posterior"));
  context.fillStyle = colour("--guide");
  context.fillRect(across(t) - 1, 8, 2, height - 30);
  context.fillStyle = colour("--soft");
  context.fillText("nats", 6, height - 6);
  context.fillText("t = 0", across(0), height - 6);
  context.fillText("1", width - 16, height - 6);
}

/** Probabilities as bars, with their names below and, from 1%, their value above; `dots` are other estimates of them. */
function plotBars(canvas, p, dots, names) {
  const { context, width, height } = cleared(canvas, 200);
  const each = width / p.length;
  context.textAlign = "center";
  const said = (share) => (share > 0.995 ? ">99%" : `${Math.round(100 * share)}%`);
  p.forEach((share, i) => {
    const tall = share * (height - 46);
    context.fillStyle = colour("--posterior");
    context.fillRect(i * each + 4, height - 24 - tall, each - 8, tall);
    context.fillStyle = colour("--ink");
    context.fillText(names[i].slice(0, Math.ceil(each / 9)), (i + 0.5) * each, height - 8);
    const middle = Math.min(Math.max((i + 0.5) * each, 20), width - 20); // of at most ">99%"
    if (share >= 0.01) context.fillText(said(share), middle, height - 29 - tall);
    context.fillStyle = colour("--guide");
    dots.filter((of) => Math.max(share, of[i]) >= 0.01).forEach((of) => context.fillRect(
      (i + 0.5) * each - 3, height - 27 - of[i] * (height - 46), 6, 6));
  });
  canvas.setAttribute("aria-label", p.map((share, i) => `${names[i]}: ${said(share)}`).join(", "));
}

/**
 * Coloured dots of the plane, and over them an `ellipse` {loc, sd} or draws as a `cloud`, and a
 * place. They are pairs [across, up]; the plane reaches as far as `reach` from 0.
 */
function plotScatter(canvas, reach, { shade, dots, labels, ellipse, cloud, place }) {
  const { context, width } = cleared(canvas, canvas.clientWidth || canvas.width);
  const at = (v) => ((v + reach) / (2 * reach)) * width;
  const dot = ([across, up], side) => context.fillRect(at(across) - side / 2, at(-up) - side / 2, side, side);
  if (shade) context.drawImage(shade, 0, 0, width, width);
  for (const v of ticks(-reach, reach).at) {
    context.fillStyle = colour("--line");
    context.fillRect(at(v), 0, 1, width);
    context.fillRect(0, at(v), width, 1);
    context.fillStyle = colour("--soft");
    context.fillText(number(v, 0), at(v) + 3, width - 4);
    if (v) context.fillText(number(v, 0), 3, at(-v) - 3);
  }
  context.globalAlpha = 0.7;
  dots.forEach((pair, i) => {
    context.fillStyle = colourOf(labels[i]);
    dot(pair, 3);
  });
  context.globalAlpha = 1;
  context.fillStyle = context.strokeStyle = colour("--guide");
  context.lineWidth = 2;
  cloud.forEach((pair) => dot(pair, 4));
  for (const deviations of ellipse ? [1, 2] : []) {
    const [wide, tall] = ellipse.sd.map((s) => (s * deviations * width) / (2 * reach));
    context.beginPath();
    context.ellipse(at(ellipse.loc[0]), at(-ellipse.loc[1]), wide, tall, 0, 0, 7);
    context.stroke();
  }
  context.strokeStyle = colour("--ink");
  context.beginPath();
  context.arc(at(place[0]), at(-place[1]), 5, 0, 7);
  context.stroke();
}

/** Images side by side. */
function paintFilm(canvas, frames) {
  const one = square(28);
  const context = canvas.getContext("2d");
  frames.forEach((pixels, i) => {
    paint(one, pixels);
    context.drawImage(one, 28 * i, 0);
  });
}
