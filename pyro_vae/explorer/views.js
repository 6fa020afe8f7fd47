// The views: what is chosen, what is drawn, what a control does.
"use strict";

const byId = (id) => document.getElementById(id);
const content = JSON.parse(byId("data").textContent);
const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
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
const colours = ["#1b6ca8", "#d95f02", "#4d9221", "#7b3294", "#e6ab02", "#66a61e", "#e7298a", "#666666",
  "#a6761d", "#1b9e77"];
const chosen = { model: models[0], image: images.length ? 0 : -1, pixels: new Float32Array(784), y: 0,
  q: null, z: null, e: null, across: 0, up: 1, seed: 1, version: 0 }; // counts what was chosen
const x = () => (chosen.image >= 0 ? images[chosen.image] : chosen.pixels);
const isBlank = () => x().every((v) => v === 0);
const isFull = () => x().every((v) => v > 0.9);
const text = (id, words) => { byId(id).textContent = words; };

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

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A row of sliders, one a coordinate, in quantiles of N(0, 1); `moved` is called with its place. */
function sliders(box, order, values, moved) {
  box.replaceChildren(...order.map((unit, rank) => {
    const row = document.createElement("label");
    row.className = "slider";
    const name = document.createElement("span");
    name.textContent = `${rank + 1}.`;
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: 0.005, max: 0.995, step: 0.005 });
    slider.value = cumulative(values[unit]);
    slider.setAttribute("aria-label", `coordinate ${rank + 1}`);
    const output = document.createElement("output");
    output.textContent = number(values[unit], 2);
    slider.addEventListener("input", () => {
      const value = quantile(Number(slider.value));
      output.textContent = number(value, 2);
      moved(unit, value);
    });
    row.append(name, slider, output);
    return row;
  }));
}

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
let before = []; // z, before the scatter was pointed at

function buildStrip() {
  byId("strip").replaceChildren(...images.map((pixels, i) => {
    const button = document.createElement("button");
    const canvas = square(40);
    paint(canvas, pixels);
    button.append(canvas);
    button.setAttribute("aria-label", `image ${i + 1} ${nameOf(labelOf(i))}`);
    button.addEventListener("click", () => choose(i));
    return button;
  }));
  if (!images.length) text("strip", "This page has no images of its own: draw one.");
}

/** The label by which the autoencoder sees image i: 0 where it takes none. */
const labelFor = (i) => (chosen.model.classes.length ? labelOf(i) ?? 0 : 0);

/** The label of what is chosen; of a drawing the likeliest, by a few draws for each. */
function takeLabel() {
  if (!chosen.model.classes.length) chosen.y = 0;
  else if (chosen.image >= 0) chosen.y = labelFor(chosen.image);
  else {
    const { p } = bayesRule(chosen.model, x(), 5, randomNumbers(chosen.seed));
    chosen.y = p.indexOf(Math.max(...p));
  }
}

/** Choose image i, or by -1 the drawing, whose label is left as it is while it is `unfinished`. */
function choose(i, unfinished = false) {
  chosen.image = i;
  chosen.version += 1;
  if (!unfinished) takeLabel();
  [...byId("strip").children].forEach((button, place) =>
    button.setAttribute("aria-pressed", String(place === i)));
  backToMean();
  showView();
}

function backToMean() {
  chosen.q = encode(chosen.model, x(), chosen.y);
  chosen.z = Array.from(chosen.q.loc);
  chosen.e = Array.from(styleOf(chosen.model, chosen.z, chosen.y).e);
  before = [...chosen.z];
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
  if (!takesLabels && view === "style") view = "latent";
  chosen.version += 1;
  takeLabel();
  backToMean();
  showView();
}

const unitOrder = () => chosen.model.order ?? Array.from({ length: chosen.model.latentDim }, (_, i) => i);

// ---- latent ----

/** The sliders move the style e: where the prior is N(0, I) that is z itself. */
function showLatent() {
  const learned = Boolean(chosen.model.prior);
  text("latentNote", `Each slider moves one coordinate of ${learned ? "the style e; z = T_y(e)" : "z"}`
    + `${chosen.model.order ? ", the most used first" : ""}. Its ends are the prior's 0.5% and 99.5%.`
    + `${chosen.model.latentDim === 2 ? " Blue in the plane: the exact posterior of the chosen image." : ""}`);
  chosen.e = Array.from(styleOf(chosen.model, chosen.z, chosen.y).e);
  sliders(byId("sliders"), unitOrder(), chosen.e, (unit, value) => {
    chosen.e[unit] = value;
    chosen.z = Array.from(latentOf(chosen.model, chosen.e, chosen.y));
    before = [...chosen.z];
    showDecoded();
  });
  showDecoded();
}

function showDecoded() {
  const start = performance.now();
  const logits = logitsAt(chosen.model, chosen.z, chosen.y);
  paint(byId("decoded"), logits.map(activations.sigmoid));
  text("time", `Decoded in ${(performance.now() - start).toFixed(1)} ms.`);
  const logP = pixelScores(logits, x()).reduce((a, b) => a + b, 0);
  text("densities", `At this z, for the chosen image: log p(z) = ${number(logPrior(chosen.model, chosen.z, chosen.y))}, `
    + `log p(x | z) = ${number(logP)}, log q(z | x) = ${number(logNormal(chosen.z, chosen.q.loc, chosen.q.sd))} nats.`);
  showScatter(chosen.q);
}

/** How far the scatter reaches from 0: over 99% of the means. */
function range(model) {
  if (!model.range) {
    const sizes = Array.from(model.means ?? [], Math.abs).sort((a, b) => a - b);
    model.range = Math.max(3.5, sizes[Math.floor(0.99 * sizes.length)] ?? 0);
  }
  return model.range;
}

function showScatter(q) {
  const canvas = byId("scatter");
  const context = canvas.getContext("2d");
  const { model, across, up } = chosen;
  const reach = range(model);
  const at = (v) => ((v + reach) / (2 * reach)) * canvas.width;
  const d = model.latentDim;
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (d === 2 && exactPosterior()) {
    context.save();
    if (across === 1) context.transform(0, -1, -1, 0, canvas.height, canvas.width); // swap the axes
    context.drawImage(posterior.shade, 0, 0, canvas.width, canvas.height);
    context.restore();
  }
  const seen = new Set();
  for (let i = 0; model.means && i < model.means.length / d; i++) {
    context.fillStyle = colourOf(labelOf(i));
    context.globalAlpha = 0.65;
    const [h, v] = [at(model.means[i * d + across]), at(-model.means[i * d + up])];
    context.fillRect(h - 1.5, v - 1.5, 3, 3);
    seen.add(labelOf(i));
  }
  context.globalAlpha = 1;
  context.strokeStyle = colour("--guide");
  context.lineWidth = 2;
  for (const deviations of [1, 2]) {
    context.beginPath();
    const scale = (canvas.width / (2 * reach)) * deviations;
    context.ellipse(at(q.loc[across]), at(-q.loc[up]), scale * q.sd[across], scale * q.sd[up], 0, 0, 7);
    context.stroke();
  }
  context.fillStyle = colour("--ink");
  context.beginPath();
  context.arc(at(chosen.z[across]), at(-chosen.z[up]), 4, 0, 7);
  context.fill();
  byId("legend").replaceChildren(...[...seen].filter((label) => label !== null).sort((a, b) => a - b)
    .map((label) => {
      const name = document.createElement("span");
      name.style.color = colourOf(label);
      name.textContent = nameOf(label);
      return name;
    }));
}

const CELLS = 48; // of the exact posterior along each axis
const posterior = { version: -1, logP: [], shade: null };

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
      const z = [at(i), at(up)];
      posterior.logP.push(logLikelihood(model, z, image, y) + logPrior(model, z, y));
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

const colourOf = (label) => (label === null ? "#888888" : colours[label % colours.length]);

function pointed(event) {
  const box = byId("scatter").getBoundingClientRect();
  const reach = range(chosen.model);
  chosen.z[chosen.across] = ((event.clientX - box.left) / box.width) * 2 * reach - reach;
  chosen.z[chosen.up] = reach - ((event.clientY - box.top) / box.height) * 2 * reach;
  showDecoded();
}

// ---- draw ----

let pen = null;

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
  readPad(false);
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
  const most = Math.max(...costs, 1e-9);
  paint(byId("costs"), costs.map((v) => v / most));
  const total = costs.reduce((a, b) => a + b, 0);
  const what = isBlank() ? "The image is blank. " : isFull() ? "The image is all white. " : "";
  const as = model.classes.length ? ` It is taken as ${nameOf(y)}.` : "";
  text("drawn", `${what}Its mean reconstruction costs ${number(total)} nats: −log p(x | z).${as}`);
}

// ---- trust ----

let [drawing, fitting] = [0, 0]; // the run that is shown; others are of an image chosen before
let weights = [];

/** Show what is known of the image that is chosen; what was found of it before stays. */
function showTrust() {
  if (showTrust.version === chosen.version) return;
  showTrust.version = chosen.version;
  drawing += 1;
  fitting += 1;
  weights = [];
  const given = chosen.model.classes.length ? ` | y = ${nameOf(chosen.y)}` : "";
  text("what", `log p(x${given}), nats`);
  for (const id of ["value", "ess", "khat", "trusted", "refinedValue", "refinedEss", "refinedKhat",
    "refinedTrusted"]) text(id, "");
  byId("refine").hidden = chosen.image >= 0 && Boolean(chosen.model.refined);
  plotWeights();
  const shipped = chosen.image >= 0 ? chosen.model.refined?.[chosen.image] : null;
  if (shipped) {
    showVerdict("refined", { ...shipped, khat: { inf: Infinity, "-inf": -Infinity }[shipped.khat] ?? shipped.khat });
    text("trustNote", `The refined value was computed by the package, to ± ${number(shipped.se, 2)} nats.`);
  } else {
    text("trustNote", `${isBlank() ? "The image is blank: a model that is sure of its background finds that likely. " : ""}`
      + "The better proposal is fitted here, by adaptive importance sampling. k-hat cannot tell of a mode that no draw has met.");
  }
}

function showVerdict(prefix, found) {
  const id = (name) => (prefix ? prefix + name[0].toUpperCase() + name.slice(1) : name);
  text(id("value"), number(found.value, 2));
  text(id("ess"), found.ess === undefined ? "" : number(found.ess, 0));
  text(id("khat"), number(found.khat, 2));
  text(id("trusted"), found.trusted ? "yes" : "no");
  byId(id("trusted")).className = found.trusted ? "yes" : "no";
}

function plotWeights() {
  const canvas = byId("weights");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!weights.length) return;
  const [low, high] = [Math.min(...weights), Math.max(...weights)];
  const at = (v) => 12 + (1 - (v - low) / Math.max(high - low, 1)) * (canvas.height - 24);
  const across = (k) => 8 + ((canvas.width - 16) * k) / 99;
  context.fillStyle = colour("--guide");
  weights.forEach((v, k) => context.fillRect(across(k) - 2, at(v) - 2, 4, 4));
  context.strokeStyle = colour("--posterior");
  context.lineWidth = 2;
  context.beginPath();
  weights.forEach((_, k) => context.lineTo(across(k), at(logMean(weights.slice(0, k + 1)))));
  context.stroke();
}

function draw100() {
  drawing += 1;
  weights = [];
  const run = drawing;
  const random = randomNumbers(chosen.seed += 1);
  const [model, image, label] = [chosen.model, x(), chosen.y];
  const q = encode(model, image, label);
  const step = () => {
    if (run !== drawing) return;
    for (let i = 0; i < 2 && weights.length < 100; i++) {
      weights.push(drawOfGuide(model, image, label, q, random).logW);
    }
    plotWeights();
    showVerdict("", summary(weights));
    if (weights.length < 100) requestAnimationFrame(step);
  };
  step();
}

/** Fit the better proposal in a worker, so that the page stays alive. */
function fitBetter() {
  fitting += 1;
  const run = fitting;
  for (const id of ["refinedEss", "refinedKhat", "refinedTrusted"]) text(id, "");
  const source = `${byId("core").textContent}
    onmessage = (event) => {
      const { model, x, y, seed } = event.data;
      let last = 0;
      const report = (share) => { if (share - last > 0.02) { last = share; postMessage({ share }); } };
      postMessage({ found: refine(model, x, y, seed, report) });
    };`;
  const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  worker.onmessage = (event) => {
    if (run !== fitting) { worker.terminate(); return; }
    if (event.data.found) {
      showVerdict("refined", event.data.found);
      worker.terminate();
    } else text("refinedValue", `${Math.round(100 * event.data.share)}%`);
  };
  worker.onerror = (event) => text("refinedValue", `failed: ${event.message}`);
  const { model, y } = chosen;
  worker.postMessage({ model: { latentDim: model.latentDim, decoder: model.decoder, encoder: model.encoder,
    prior: model.prior, classes: model.classes }, x: x(), y, seed: chosen.seed += 1 });
}

// ---- style ----

function showStyle() {
  const { model } = chosen;
  if (!model.classes.length) return;
  text("styleNote", "One style e on every class: f(e, y) = decoder(T_y(e), y). Each slider moves one coordinate of e.");
  sliders(byId("styleSliders"), unitOrder(), chosen.e, (unit, value) => {
    chosen.e[unit] = value;
    showDigits();
  });
  showDigits();
  if (showStyle.version !== chosen.version) {
    showStyle.version = chosen.version;
    showStyle.p = bayesRule(model, x(), 20, randomNumbers(chosen.seed)).p;
  }
  const { p } = showStyle;
  const canvas = byId("bars");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.font = "13px system-ui";
  const width = canvas.width / p.length;
  p.forEach((share, label) => {
    context.fillStyle = colour("--posterior");
    context.fillRect(label * width + 4, canvas.height - 22 - share * (canvas.height - 44), width - 8,
      share * (canvas.height - 44));
    context.fillStyle = colour("--ink");
    context.fillText(nameOf(label).slice(0, Math.ceil(width / 9)), label * width + width / 2 - 4, canvas.height - 6);
  });
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
    byId("other").replaceChildren(...images.map((_, i) => new Option(`image ${i + 1}`, i)));
    byId("other").value = Math.min(1, images.length - 1);
  }
  const other = images.length ? Number(byId("other").value) : -1;
  if (other < 0 || (images.length === 1 && chosen.image === 0)) {
    text("wayNote", "This page has no second image.");
    return;
  }
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
    showBetween.curve = Array.from({ length: 21 }, (_, i) => {
      const along = i / 20;
      const of = along > 0.5 ? labelFor(other) : y;
      return elbo(model, imageAt(model, at(along), of), of, 4, randomNumbers(7));
    });
  }
  const canvas = byId("line");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const { curve } = showBetween;
  const [low, high] = [Math.min(...curve), Math.max(...curve)];
  const height = (v) => 14 + (1 - (v - low) / Math.max(high - low, 1)) * (canvas.height - 28);
  const across = (s) => 10 + s * (canvas.width - 20);
  context.strokeStyle = colour("--posterior");
  context.lineWidth = 2;
  context.beginPath();
  curve.forEach((v, i) => context.lineTo(across(i / 20), height(v)));
  context.stroke();
  context.fillStyle = colour("--guide");
  context.fillRect(across(t) - 1, 0, 2, canvas.height);
  context.fillStyle = colour("--soft");
  context.font = "12px system-ui";
  context.fillText(`${number(high, 0)} nats`, 14, 12);
  context.fillText(`${number(low, 0)} nats`, 14, canvas.height - 4);
}

// ---- the page ----

const shows = { latent: showLatent, draw: showDraw, trust: showTrust, style: showStyle, between: showBetween };

function showView() {
  for (const section of document.querySelectorAll(".view")) section.hidden = section.id !== view;
  for (const tab of document.querySelectorAll('[role="tab"]')) {
    tab.setAttribute("aria-selected", String(tab.dataset.view === view));
  }
  shows[view]();
}

document.querySelectorAll('[role="tab"]').forEach((tab) => tab.addEventListener("click", () => {
  view = tab.dataset.view;
  showView();
}));
byId("model").replaceChildren(...models.map((model, i) => new Option(model.name, i)));
byId("model").addEventListener("change", (event) => useModel(Number(event.target.value)));
byId("reset").addEventListener("click", () => { backToMean(); showLatent(); });
byId("random").addEventListener("click", () => {
  const random = randomNumbers(chosen.seed += 1);
  const e = Array.from(chosen.z, random.normal);
  chosen.z = Array.from(latentOf(chosen.model, e, chosen.y));
  before = [...chosen.z];
  showLatent();
});
for (const key of ["across", "up"]) {
  byId(key).addEventListener("change", (event) => { chosen[key] = Number(event.target.value); showDecoded(); });
}
byId("scatter").addEventListener("pointermove", pointed);
byId("scatter").addEventListener("pointerdown", (event) => { pointed(event); before = [...chosen.z]; });
byId("scatter").addEventListener("pointerleave", () => { chosen.z = [...before]; showLatent(); });
byId("pad").addEventListener("pointerdown", (event) => { pen = penAt(event); stroke(event); });
window.addEventListener("pointermove", stroke);
for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, liftPen);
byId("clear").addEventListener("click", clearPad);
byId("noise").addEventListener("input", showDraw);
byId("sample100").addEventListener("click", draw100);
byId("refine").addEventListener("click", fitBetter);
byId("transfer").addEventListener("click", () => { backToMean(); showStyle(); });
byId("randomStyle").addEventListener("click", () => {
  const random = randomNumbers(chosen.seed += 1);
  chosen.e = Array.from(chosen.e, random.normal);
  showStyle();
});
byId("other").addEventListener("change", showBetween);
byId("t").addEventListener("input", showBetween);
const pad = byId("pad").getContext("2d", { willReadFrequently: true });
pad.fillRect(0, 0, 280, 280);
buildStrip();
useModel(0);
if (images.length) choose(0);
