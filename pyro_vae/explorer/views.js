// The views: what is chosen, what is drawn, what a control does.
"use strict";

const byId = (id) => document.getElementById(id);
const content = JSON.parse(byId("data").textContent);
function bytesOf(text) {
  const decoded = atob(text);
  const found = new Uint8Array(decoded.length);
  for (let i = 0; i < found.length; i++) found[i] = decoded.charCodeAt(i); // by far the fastest way
  return found.buffer;
}
const bytes = bytesOf(content.weights);
const models = content.models.map((model) => unpack(bytes, model));
const images = [];
if (content.images) {
  const grey = new Uint8Array(bytesOf(content.images));
  for (let i = 0; i + 784 <= grey.length; i += 784) {
    images.push(Float32Array.from(grey.slice(i, i + 784), (v) => v / 255));
  }
}
const labelOf = (i) => (i < content.labels.length ? content.labels[i] : null);
const nameOf = (label) => (label === null ? "" : content.classes[label]);
function nameOfImage(i) {
  const label = nameOf(labelOf(i));
  return `image ${i + 1}${label && `: ${label}`}`;
}
const chosen = { model: models[0], image: Math.floor(images.length / 2) || images.length - 1,
  pixels: new Float32Array(784), y: 0,
  q: null, z: null, e: null, across: 0, up: 1, seed: 1, version: 0 }; // counts what was chosen
const x = () => (chosen.image >= 0 ? images[chosen.image] : chosen.pixels);
const isBlank = (pixels) => pixels.every((v) => v === 0);
const isFull = (pixels) => pixels.every((v) => v > 0.9);
const text = (id, words) => { byId(id).textContent = words; };

const FILM = [0.02, 0.25, 0.5, 0.75, 0.98]; // the quantiles of a coordinate that its film shows
let filming = 0; // the films that are being painted; others are given up

/**
 * Rows of sliders, one a coordinate of the style, in quantiles of N(0, 1). They move the style, and
 * call `show`. Beside each is a film: what the coordinate does, the others as they are.
 */
function sliders(box, show) {
  const order = unitOrder();
  const rows = order.map((unit, rank) => {
    const row = document.createElement("label");
    row.className = "slider";
    const name = document.createElement("span");
    name.textContent = `${rank + 1}.`;
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: 0.005, max: 0.995, step: 0.005 });
    slider.setAttribute("aria-label", `coordinate ${rank + 1}`);
    slider.addEventListener("input", () => {
      settle(replaced(unit, quantile(Number(slider.value))));
      showPlaces(box);
      show();
    });
    slider.addEventListener("change", () => paintFilms());
    const film = document.createElement("canvas");
    [film.width, film.height] = [28 * FILM.length, 28];
    row.append(name, slider, document.createElement("output"), film);
    return row;
  });
  const paintFilms = () => {
    filming += 1;
    const [run, { model, y }] = [filming, chosen];
    const next = (rank) => {
      if (run !== filming || rank === order.length) return;
      const frames = FILM.map((p) => latentOf(model, replaced(order[rank], quantile(p)), y));
      paintFilm(rows[rank].lastChild, frames.map((z) => imageAt(model, z, y)));
      setTimeout(next, 0, rank + 1);
    };
    setTimeout(next, 0, 0);
  };
  box.replaceChildren(...rows);
  showPlaces(box);
  paintFilms();
}

/** Put the sliders of a box where the style is. */
function showPlaces(box) {
  [...box.children].forEach((row, rank) => {
    const value = chosen.e[unitOrder()[rank]];
    const [, slider, output] = row.children;
    slider.value = cumulative(value);
    output.textContent = number(value, 2);
    slider.setAttribute("aria-valuetext", output.textContent);
    output.classList.toggle("beyond", Math.abs(value) > 2.6); // the slider's ends are at 2.58
  });
}

/** The style, with another value of one coordinate. */
const replaced = (unit, value) => chosen.e.map((v, i) => (i === unit ? value : v));

/** The standard normal's distribution function, to 1e-7 (Abramowitz and Stegun, 26.2.17). */
function cumulative(z) {
  const t = 1 / (1 + 0.2316419 * Math.abs(z));
  const series = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937
    + t * (-1.821255978 + t * 1.330274429))));
  const upper = (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * series;
  return z > 0 ? 1 - upper : upper;
}

/** Its inverse, by bisection. */
function quantile(p) {
  let [low, high] = [-6, 6];
  for (let i = 0; i < 40; i++) {
    const middle = (low + high) / 2;
    if (cumulative(middle) < p) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

// ---- what is chosen ----

let view = "latent";
let kept = []; // the style, before the scatter was pointed at

function buildStrip() {
  const yours = stripButton(chosen.pixels, "your drawing", -1);
  yours.hidden = true;
  byId("strip").replaceChildren(...images.map((pixels, i) => stripButton(pixels, nameOfImage(i), i)), yours);
  if (!images.length) byId("strip").prepend("This page has no images of its own: draw one.");
}

function stripButton(pixels, name, i) {
  const button = document.createElement("button");
  const canvas = square(40);
  paint(canvas, pixels);
  button.append(canvas);
  button.title = name;
  button.setAttribute("aria-label", name);
  button.addEventListener("click", () => choose(i));
  return button;
}

/** The label by which the autoencoder sees image i: 0 where it takes none. */
const labelFor = (i) => (chosen.model.classes.length ? labelOf(i) ?? 0 : 0);

const DRAWS = 12; // of the guide, for each label: a second on a slow machine

/** p(y | x) of what is chosen: kept until something else is. */
function oddsOfLabels() {
  if (oddsOfLabels.version !== chosen.version) {
    oddsOfLabels.version = chosen.version;
    oddsOfLabels.found = bayesRule(chosen.model, x(), DRAWS, randomNumbers(chosen.seed += 1));
  }
  return oddsOfLabels.found;
}

/** The label of what is chosen; of a drawing the likeliest. */
function takeLabel() {
  if (!chosen.model.classes.length) chosen.y = 0;
  else if (chosen.image >= 0) chosen.y = labelFor(chosen.image);
  else {
    const { p } = oddsOfLabels();
    chosen.y = p.indexOf(Math.max(...p));
  }
}

/** Choose image i, or by -1 the drawing, whose label is left as it is while it is `unfinished`. */
function choose(i, unfinished = false) {
  clearTimeout(lifted);
  lifted = 0;
  chosen.image = i;
  chosen.version += 1;
  if (!unfinished) takeLabel();
  markChosen();
  if (i < 0) {
    const yours = byId("strip").lastChild;
    yours.hidden = false;
    paint(yours.firstChild, chosen.pixels);
  }
  backToMean();
  showView();
}

function markChosen() {
  const { image } = chosen;
  [...byId("strip").children].forEach((button, place) => {
    const isChosen = place === (image < 0 ? images.length : image);
    button.setAttribute("aria-pressed", String(isChosen));
    button.tabIndex = isChosen ? 0 : -1;
  });
}

/** Go to the style e, and so to z = T_y(e): where the prior is N(0, I) that is the same. */
function moveTo(e) {
  chosen.e = Array.from(e);
  chosen.z = Array.from(latentOf(chosen.model, chosen.e, chosen.y));
}

/** Go to the style e, to come back to it from places that are only pointed at. */
function settle(e) {
  moveTo(e);
  kept = chosen.e;
}

function backToMean() {
  const { model, y } = chosen;
  chosen.q = encode(model, x(), y);
  chosen.z = Array.from(chosen.q.loc);
  chosen.e = Array.from(styleOf(model, chosen.z, y).e);
  kept = chosen.e;
}

function useModel(i) {
  chosen.model = models[i];
  const d = chosen.model.latentDim;
  const order = unitOrder();
  [chosen.across, chosen.up] = [order[0], order[Math.min(1, d - 1)]];
  for (const key of ["across", "up"]) {
    byId(key).replaceChildren(...order.map((unit, rank) => new Option(`coordinate ${rank + 1}`, unit)));
    byId(key).value = chosen[key];
  }
  const takesLabels = chosen.model.classes.length > 0;
  document.querySelector('[data-view="style"]').hidden = !takesLabels;
  document.body.classList.toggle("labelled", takesLabels); // shows the y of all formulas
  if (!takesLabels && view === "style") view = "latent";
  chosen.version += 1;
  takeLabel();
  backToMean();
  showView();
}

const unitOrder = () => chosen.model.order ?? Array.from({ length: chosen.model.latentDim }, (_, i) => i);

// ---- latent ----

let cloud = []; // styles that the guide draws, where it is no ellipse in their plane

function drawnStyles(count) {
  const { model, y, q } = chosen;
  const random = randomNumbers(1);
  return Array.from({ length: count }, () =>
    styleOf(model, q.loc.map((v, i) => v + q.sd[i] * random.normal()), y).e);
}

/** The sliders move the style e: where the prior is N(0, I) that is z itself. */
function showLatent() {
  const { model } = chosen;
  text("latentNote", (model.prior
    ? "Each slider moves one coordinate of the style e ~ N(0, I). The prior's map for the label y takes it to z = T_y(e). "
    : "Each slider moves one coordinate of z ~ N(0, I). ")
    + "Beside it: the image at five places of that coordinate, from −2 to 2, the others as they are. What a coordinate does "
    + "depends on the others. A slider reaches from −2.6 to 2.6; a value in orange lies beyond."
    + `${model.order ? " Coordinates that vary most between images come first." : ""}`
    + `${model.latentDim === 2 ? " Blue in the plane: the exact posterior of the chosen image." : ""}`);
  text("scatterNote", `${model.prior ? "Styles" : "Means of z"} of the images. `
    + "Orange: what the guide, the encoder's Gaussian, gives the chosen image, "
    + `${model.prior ? "60 draws" : "one and two standard deviations"}. Point at a place to see its image, click to keep it.`);
  cloud = model.prior ? drawnStyles(60) : [];
  sliders(byId("sliders"), showDecoded);
  showDecoded();
}

function showDecoded() {
  const { model, y, z, q } = chosen;
  const start = performance.now();
  const logits = logitsAt(model, z, y);
  paint(byId("decoded"), logits.map(activations.sigmoid));
  text("time", `Decoded in ${(performance.now() - start).toFixed(1)} ms.`);
  const logP = pixelScores(logits, x()).reduce((a, b) => a + b, 0);
  const given = model.classes.length ? ", y" : "";
  text("densities", `At this z, for the chosen image: log p(z${given && " | y"}) = ${number(logPrior(model, z, y))}, `
    + `log p(x | z${given}) = ${number(logP)}, log q(z | x${given}) = ${number(logNormal(z, q.loc, q.sd))} nats.`);
  showScatter();
}

/** How far the scatter reaches from 0: over 99% of the styles. */
function range(model) {
  if (!model.range) {
    const sizes = Array.from(model.styles ?? [], Math.abs).sort((a, b) => a - b);
    model.range = Math.max(3.5, sizes[Math.floor(0.99 * sizes.length)] ?? 0);
  }
  return model.range;
}

function showScatter() {
  const { model, across, up, q } = chosen;
  const d = model.latentDim;
  const pair = (values, first = 0) => [values[first + across], values[first + up]];
  const count = (model.styles?.length ?? 0) / d;
  const shade = d === 2 && exactPosterior() ? posterior.shade : null;
  plotScatter(byId("scatter"), range(model), {
    shade: across === 1 ? shade && swapped(shade) : shade,
    dots: Array.from({ length: count }, (_, i) => pair(model.styles, i * d)),
    labels: Array.from({ length: count }, (_, i) => labelOf(i)),
    ellipse: model.prior ? null : { loc: pair(q.loc), sd: pair(q.sd) },
    cloud: cloud.map((e) => pair(e)),
    place: pair(chosen.e),
  });
}

function buildLegend() {
  const labels = [...new Set(content.labels)].sort((a, b) => a - b);
  byId("legend").replaceChildren(...labels.map((label) => {
    const name = document.createElement("span");
    name.style.setProperty("--dot", colourOf(label));
    name.textContent = nameOf(label);
    return name;
  }));
}

const CELLS = 48; // of the exact posterior along each axis
const posterior = { version: -1, logP: [], shade: null }; // over the plane of e

/** Whether p(z | x) on the plane is there to draw; if not, compute it, a row at a time. */
function exactPosterior() {
  if (posterior.version === chosen.version) return posterior.shade !== null;
  Object.assign(posterior, { version: chosen.version, logP: [], shade: null });
  const { model, y, version } = chosen;
  const [image, reach] = [x(), range(model)];
  const at = (i) => ((i + 0.5) / CELLS) * 2 * reach - reach;
  const row = () => {
    if (posterior.version !== version) return;
    const up = CELLS - 1 - Math.floor(posterior.logP.length / CELLS);
    for (let i = 0; i < CELLS; i++) {
      const e = [at(i), at(up)];
      posterior.logP.push(logLikelihood(model, latentOf(model, e, y), image, y) + logNormal(e, [0, 0], [1, 1]));
    }
    if (up > 0) setTimeout(row);
    else {
      posterior.shade = shaded(posterior.logP);
      if (view === "latent") showDecoded();
    }
  };
  setTimeout(row);
  return false;
}

/** A canvas as dark as the square root of the density, so that a faint mode is seen too. */
function shaded(logP) {
  const top = Math.max(...logP);
  return pixelCanvas(logP, (l) => [27, 108, 168, 230 * Math.exp((l - top) / 2)]);
}

/** The same plane with its axes in the other order. */
function swapped(shade) {
  const canvas = square(CELLS);
  const context = canvas.getContext("2d");
  context.transform(0, -1, -1, 0, CELLS, CELLS);
  context.drawImage(shade, 0, 0);
  return canvas;
}

function pointed(event) {
  const box = byId("scatter").getBoundingClientRect();
  const reach = range(chosen.model);
  const at = { [chosen.across]: ((event.clientX - box.left) / box.width) * 2 * reach - reach,
    [chosen.up]: reach - ((event.clientY - box.top) / box.height) * 2 * reach };
  moveTo(chosen.e.map((v, i) => at[i] ?? v));
  showPlaces(byId("sliders"));
  showDecoded();
}

// ---- draw ----

let pen = null;
let lifted = 0; // the timer that waits for another stroke: 0 where none does
const PAUSE = 400; // milliseconds

function penAt(event) {
  const box = byId("pad").getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * 280, ((event.clientY - box.top) / box.height) * 280];
}

function stroke(event) {
  if (!pen) return;
  const context = byId("pad").getContext("2d");
  const to = penAt(event);
  Object.assign(context, { strokeStyle: "#fff", lineWidth: 24, lineCap: "round", lineJoin: "round" });
  context.beginPath();
  context.moveTo(...pen);
  context.lineTo(to[0] + 0.01, to[1]); // a line of no length would not be drawn
  context.stroke();
  pen = to;
  if (!stroke.waiting) {
    stroke.waiting = true;
    requestAnimationFrame(() => { stroke.waiting = false; if (pen) readPad(true); });
  }
}

function liftPen() {
  if (!pen) return;
  pen = null;
  readPad(true);
  lifted = setTimeout(readPad, PAUSE, false); // its label takes a moment, in which nothing can be drawn
}

/** Take the drawing: the mean of each block of 10 x 10 of its pixels, centred as MNIST's are. */
function readPad(unfinished) {
  const data = byId("pad").getContext("2d").getImageData(0, 0, 280, 280).data;
  const small = new Float32Array(784);
  for (let r = 0; r < 280; r++) {
    for (let c = 0; c < 280; c++) {
      small[Math.floor(r / 10) * 28 + Math.floor(c / 10)] += data[4 * (r * 280 + c)] / 25500;
    }
  }
  chosen.pixels = centred(small);
  choose(-1, unfinished);
}

function clearPad() {
  const context = byId("pad").getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, 280, 280);
  chosen.pixels = new Float32Array(784);
  choose(-1);
}

function noisy() {
  const level = Number(byId("noise").value);
  const random = randomNumbers(chosen.seed);
  return x().map((v) => (random.uniform() < level ? Number(random.uniform() < 0.5) : v));
}

const MOST_COST = 3; // nats: a pixel that costs as much is white

function showDraw() {
  const { model, y } = chosen;
  const seen = noisy();
  const q = encode(model, seen, y);
  const random = randomNumbers(chosen.seed + 1);
  text("noiseValue", `${Math.round(100 * byId("noise").value)}%`);
  paint(byId("seen"), seen);
  const logits = logitsAt(model, q.loc, y);
  paint(byId("rebuilt"), logits.map(activations.sigmoid));
  for (const id of ["sample1", "sample2"]) {
    paint(byId(id), imageAt(model, q.loc.map((v, i) => v + q.sd[i] * random.normal()), y));
  }
  const costs = pixelScores(logits, seen).map((v) => -v);
  paint(byId("costs"), costs.map((v) => v / MOST_COST));
  const total = costs.reduce((a, b) => a + b, 0);
  const what = isBlank(seen) ? "The image is blank. " : isFull(seen) ? "The image is all white. " : "";
  const whose = chosen.image < 0 ? "the likeliest label of your drawing" : "its label";
  const as = model.classes.length ? ` The autoencoder is told y = ${nameOf(y)}, ${whose}.` : "";
  text("drawn", `${what}Its mean reconstruction costs ${number(total)} nats: −log p(x | z${model.classes.length ? ", y" : ""}).${as}`);
}

// ---- style ----

function showStyle() {
  const { model } = chosen;
  if (!model.classes.length) return;
  text("styleNote", "One style e ~ N(0, I) on every class: f(e, y) = decoder(T_y(e), y), where T_y is the prior's map for "
    + "the label y. Each slider moves one coordinate of e. Beside it: what that does to the digit of the chosen image.");
  sliders(byId("styleSliders"), showDigits);
  showDigits();
  const { p, halves } = oddsOfLabels();
  plotBars(byId("bars"), p, halves, model.classes.map((_, label) => nameOf(label)));
}

function showDigits() {
  const { model } = chosen;
  const box = byId("digits");
  while (box.children.length < model.classes.length) {
    const figure = document.createElement("figure");
    const canvas = square(84);
    const caption = document.createElement("figcaption");
    caption.textContent = nameOf(box.children.length);
    figure.append(canvas, caption);
    box.append(figure);
  }
  model.classes.forEach((_, label) => {
    paint(box.children[label].firstChild, imageAt(model, latentOf(model, chosen.e, label), label));
  });
}

// ---- between ----

function showBetween() {
  const { model, y } = chosen;
  if (!byId("other").options.length) {
    byId("other").replaceChildren(...images.map((_, i) => new Option(nameOfImage(i), i)));
    byId("other").value = Math.min(1, images.length - 1);
  }
  const other = images.length ? Number(byId("other").value) : -1;
  if (other < 0 || (images.length === 1 && chosen.image === 0)) {
    text("wayNote", "This page has no second image.");
    return;
  }
  paint(byId("from"), x());
  paint(byId("to"), images[other]);
  const from = encode(model, x(), y).loc;
  const to = encode(model, images[other], labelFor(other)).loc;
  const at = (t) => from.map((v, i) => v + t * (to[i] - v));
  const t = Number(byId("t").value);
  const label = t > 0.5 ? labelFor(other) : y; // halfway the digit changes
  paint(byId("way"), imageAt(model, at(t), label));
  text("wayNote", `t = ${number(t, 2)}`);
  const key = [chosen.version, other].join();
  if (showBetween.key !== key) {
    showBetween.key = key;
    const curve = (first, last, of) => Array.from({ length: last - first + 1 }, (_, i) => {
      const along = (first + i) / 20;
      return [along, elbo(model, imageAt(model, at(along), of), of, 4, randomNumbers(7))];
    });
    const after = labelFor(other);
    showBetween.curves = after === y ? [curve(0, 20, y)] : [curve(0, 10, y), curve(10, 20, after)];
  }
  plotCurves(byId("line"), showBetween.curves, t);
}

// ---- the page ----

const shows = { latent: showLatent, draw: showDraw, trust: showTrust, style: showStyle, between: showBetween };

function showView() {
  for (const section of document.querySelectorAll(".view")) section.hidden = section.id !== view;
  for (const tab of document.querySelectorAll('[role="tab"]')) {
    tab.setAttribute("aria-selected", String(tab.dataset.view === view));
    tab.tabIndex = tab.dataset.view === view ? 0 : -1;
  }
  shows[view]();
}

/** Let the arrow keys choose among buttons, which Tab passes in one step. */
function chooseByArrows(box) {
  box.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...box.querySelectorAll("button")].filter((button) => !button.hidden);
    const next = buttons[(buttons.indexOf(event.target) + step + buttons.length) % buttons.length];
    next.focus();
    next.click();
  });
}

for (const id of ["tabs", "strip"]) chooseByArrows(byId(id));
document.querySelectorAll('[role="tab"]').forEach((tab) => tab.addEventListener("click", () => {
  view = tab.dataset.view;
  showView();
}));
byId("model").replaceChildren(...models.map((model, i) => new Option(model.name, i)));
byId("model").addEventListener("change", (event) => useModel(Number(event.target.value)));
for (const button of document.querySelectorAll("[data-go]")) {
  button.addEventListener("click", () => {
    const random = randomNumbers(chosen.seed += 1);
    if (button.dataset.go === "mean") backToMean();
    else settle(chosen.e.map(button.dataset.go === "zero" ? () => 0 : random.normal));
    showView();
  });
}
for (const key of ["across", "up"]) {
  byId(key).addEventListener("change", (event) => { chosen[key] = Number(event.target.value); showDecoded(); });
}
byId("scatter").addEventListener("pointermove", pointed);
byId("scatter").addEventListener("pointerdown", (event) => { pointed(event); kept = chosen.e; });
byId("scatter").addEventListener("pointerleave", () => { moveTo(kept); showLatent(); });
byId("pad").addEventListener("pointerdown", (event) => { pen = penAt(event); stroke(event); });
window.addEventListener("pointermove", stroke);
for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, liftPen);
byId("clear").addEventListener("click", clearPad);
byId("noise").addEventListener("input", showDraw);
byId("sample100").addEventListener("click", draw100);
byId("refine").addEventListener("click", fitOrStop);
byId("other").addEventListener("change", showBetween);
byId("t").addEventListener("input", showBetween);
const pad = byId("pad").getContext("2d", { willReadFrequently: true });
pad.fillRect(0, 0, 280, 280);
buildStrip();
buildLegend();
text("draws", DRAWS);
text("mostCost", MOST_COST);
markChosen();
useModel(0);
