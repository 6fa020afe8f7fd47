// The view "Trust": the weights of an image one by one, and what they say.
"use strict";

let drawing = 0; // the run that is shown; others are of an image chosen before
let weights = [];
let before = []; // the estimates of the runs before, of the same image
let worker = null; // that fits a refined proposal

/** Show what is known of the image that is chosen; what was found of it before stays. */
function showTrust() {
  if (showTrust.version === chosen.version) return;
  showTrust.version = chosen.version;
  drawing += 1;
  [weights, before] = [[], []];
  stopFit();
  chosen.refined = null;
  const given = chosen.model.classes.length ? ` | y = ${nameOf(chosen.y)}` : "";
  text("what", `log p(x${given}), nats`);
  for (const id of ["value", "ess", "khat", "trusted", "refinedValue", "refinedEss", "refinedKhat",
    "refinedTrusted", "runs"]) text(id, "");
  byId("refine").hidden = chosen.image >= 0 && Boolean(chosen.model.refined);
  const shipped = chosen.image >= 0 ? chosen.model.refined?.[chosen.image] : null;
  if (shipped) {
    showRefined({ ...shipped, khat: { inf: Infinity, "-inf": -Infinity }[shipped.khat] ?? shipped.khat });
    text("trustNote", "The refined value was computed when this page was made.");
  } else {
    text("trustNote", `${isBlank(x()) ? "The image is blank: a model that is sure of its background finds that likely. " : ""}`
      + "The refined proposal is fitted here, by adaptive importance sampling.");
    showWeights();
  }
}

/** Whether an estimate by the guide is far from a refined one that is to be trusted. */
function isOff(found) {
  const { refined } = chosen;
  return refined?.trusted && Math.abs(found.value - refined.value) > 2 * Math.hypot(found.se, refined.se);
}

function showVerdict(prefix, found) {
  const id = (name) => (prefix ? prefix + name[0].toUpperCase() + name.slice(1) : name);
  const error = found.khat <= found.limit ? number(found.se, 2) : "?"; // by so few large weights none can be told
  text(id("value"), `${number(found.value, 2)}\u00a0±\u00a0${error}`);
  text(id("ess"), number(found.ess, 0));
  text(id("khat"), `${number(found.khat, 2)} (limit\u00a0${number(found.limit, 2)})`);
  const off = !prefix && found.trusted && isOff(found);
  text(id("trusted"), off ? "no: far from the refined" : found.trusted ? "yes" : "no");
  byId(id("trusted")).className = found.trusted && !off ? "yes" : "no";
}

function showRefined(found) {
  chosen.refined = found;
  showVerdict("refined", found);
  if (weights.length) showVerdict("", summary(weights));
  showWeights();
}

function showWeights() {
  plotWeights(byId("weights"), weights, chosen.refined?.value, before);
}

function draw100() {
  drawing += 1;
  if (weights.length === 100) before.push(logMean(weights));
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
    showVerdict("", summary(weights));
    showWeights();
    if (weights.length < 100) requestAnimationFrame(step);
    else if (before.length) showRuns([...before, logMean(weights)]);
  };
  step();
}

function showRuns(values) {
  const mean = values.reduce((a, b) => a + b) / values.length;
  const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (values.length - 1);
  text("runs", `${values.length} runs of 100 samples: ${number(mean, 2)} nats on average, standard deviation `
    + `${number(Math.sqrt(variance), 2)}. Where that is far above the ±, the ± was wrong.`);
}

function stopFit() {
  worker?.terminate();
  worker = null;
  text("refine", "Fit a refined proposal");
}

/** Fit a refined proposal in a worker, so that the page stays alive; or stop one that is being fitted. */
function fitOrStop() {
  if (worker) {
    stopFit();
    return;
  }
  for (const id of ["refinedValue", "refinedEss", "refinedKhat", "refinedTrusted"]) text(id, "");
  const source = `${byId("core").textContent}
    onmessage = (event) => {
      const { model, x, y, seed } = event.data;
      let last = 0;
      const report = (share, fit) => {
        if (Math.abs(share - last) > 0.02) { last = share; postMessage({ share, fit }); }
      };
      postMessage({ found: refine(model, x, y, seed, report) });
    };`;
  const showShare = (share, fit) => text("refine", `Stop: fit ${fit} of at most ${FITS}, ${Math.round(100 * share)}%`);
  showShare(0, 1);
  worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  worker.onmessage = ({ data }) => {
    if (data.found) {
      showRefined(data.found);
      stopFit();
    } else showShare(data.share, data.fit);
  };
  worker.onerror = (event) => { stopFit(); text("refinedValue", `failed: ${event.message}`); };
  const { model, y } = chosen;
  worker.postMessage({ model: { latentDim: model.latentDim, decoder: model.decoder, encoder: model.encoder,
    prior: model.prior, classes: model.classes }, x: x(), y, seed: chosen.seed += 1 });
}
