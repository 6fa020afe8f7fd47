// log p(x) by importance sampling, and how far to trust it.
"use strict";

/** Random numbers that depend on a seed alone: uniform, and normal. */
function randomNumbers(seed) {
  let state = seed >>> 0;
  const uniform = () => { // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return { uniform, normal };
}

const LOG_2_PI = Math.log(2 * Math.PI);
const LOG_TINY = Math.log(2 ** -1022); // of the smallest weight beside one of 1

/** log N(z; loc, diag(sd^2)). */
function logNormal(z, loc, sd) {
  let sum = 0;
  for (let i = 0; i < z.length; i++) {
    const scaled = (z[i] - loc[i]) / sd[i];
    sum -= 0.5 * (scaled * scaled + LOG_2_PI) + Math.log(sd[i]);
  }
  return sum;
}

/** log p(z), or log p(z | y). */
function logPrior(model, z, y) {
  const { e, logDet } = styleOf(model, z, y);
  return logDet + e.reduce((sum, v) => sum - 0.5 * (v * v + LOG_2_PI), 0);
}

/** Each pixel's x log p + (1 - x) log(1 - p), from its logit. */
function pixelScores(logits, x) {
  return logits.map((l, i) => x[i] * l - Math.max(l, 0) - Math.log1p(Math.exp(-Math.abs(l))));
}

/** log p(x | z). */
function logLikelihood(model, z, x, y) {
  return pixelScores(logitsAt(model, z, y), x).reduce((a, b) => a + b, 0);
}

/** log (1/K sum_k w_k) from log weights. */
function logMean(logW) {
  const top = Math.max(...logW);
  if (top === -Infinity) return top;
  return top + Math.log(logW.reduce((sum, l) => sum + Math.exp(l - top), 0) / logW.length);
}

/** (sum w)^2 / sum w^2: how many equal weights would be as good. */
function effectiveSamples(logW) {
  const top = Math.max(...logW);
  const w = logW.map((l) => Math.exp(l - top));
  const sum = w.reduce((a, b) => a + b, 0);
  return (sum * sum) / w.reduce((a, b) => a + b * b, 0);
}

/** The largest k-hat at which K samples are to be trusted. */
function khatThreshold(count) {
  return Math.min(1 - 1 / Math.log10(count), 0.7);
}

/**
 * Pareto k-hat: the shape of the generalised Pareto distribution fitted to the largest weights.
 * Zhang and Stephens (2009), as in Pareto smoothed importance sampling (Vehtari et al. 2024).
 */
function paretoKhat(logW) {
  const count = logW.length;
  const top = Math.max(...logW);
  if (count > 1 && top - Math.min(...logW) <= 1e-4) return -Infinity; // all weights are equal
  if (count < 26) return Infinity;
  const sorted = Float64Array.from(logW, (l) => l - top).sort();
  const tail = Math.ceil(Math.min(count / 5, 3 * Math.sqrt(count)));
  const cut = Math.max(sorted[count - tail - 1], LOG_TINY);
  const x = sorted.filter((l) => l > cut).map((l) => Math.exp(l) - Math.exp(cut));
  const n = x.length;
  if (n < 6) return Infinity;
  const quarter = x[Math.floor(n / 4 + 0.5) - 1];
  const grid = 30 + Math.floor(Math.sqrt(n));
  const b = [];
  const k = [];
  for (let i = 1; i <= grid; i++) {
    b.push((1 - Math.sqrt(grid / (i - 0.5))) / (3 * quarter) + 1 / x[n - 1]);
    k.push(x.reduce((sum, v) => sum + Math.log1p(-b[i - 1] * v), 0) / n);
  }
  const score = b.map((v, i) => n * (Math.log(-(v / k[i])) - k[i] - 1));
  let weights = score.map((s) => 1 / score.reduce((sum, other) => sum + Math.exp(other - s), 0));
  weights = weights.map((w) => (w >= 10 * Number.EPSILON ? w : 0));
  const total = weights.reduce((a, c) => a + c, 0);
  const mean = b.reduce((sum, v, i) => sum + (v * weights[i]) / total, 0);
  const shape = x.reduce((sum, v) => sum + Math.log1p(-mean * v), 0) / n;
  const found = (n * shape + 5) / (n + 10);
  return Number.isFinite(found) ? found : Infinity;
}

/** One draw of the encoder: z, and its three log densities. */
function drawOfGuide(model, x, y, q, random) {
  const z = q.loc.map((v, i) => v + q.sd[i] * random.normal());
  const logP = logLikelihood(model, z, x, y);
  const prior = logPrior(model, z, y);
  const logQ = logNormal(z, q.loc, q.sd);
  return { z, logP, prior, logQ, logW: logP + prior - logQ };
}

const MOST_ERROR = 0.25; // nats, of an estimate that is to be trusted

/** What log weights say: the estimate and its standard error, effective samples, k-hat, and whether to trust it. */
function summary(logW) {
  const [khat, limit, ess] = [paretoKhat(logW), khatThreshold(logW.length), effectiveSamples(logW)];
  const se = Math.sqrt(Math.max(1 / ess - 1 / logW.length, 0)); // of a mean of weights, over that mean
  return { value: logMean(logW), se, ess, khat, limit, trusted: khat <= limit && se <= MOST_ERROR };
}

/** The lower Cholesky factor of a covariance, an array of rows; rounding may not make it indefinite. */
function cholesky(matrix) {
  const d = matrix.length;
  const factor = matrix.map(() => new Float64Array(d));
  for (let i = 0; i < d; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = matrix[i][j];
      for (let k = 0; k < j; k++) sum -= factor[i][k] * factor[j][k];
      factor[i][j] = i === j ? Math.sqrt(Math.max(sum, 1e-10)) : sum / factor[j][j];
    }
  }
  return factor;
}

const DEGREES = 5; // of freedom of the proposal: its tails are heavier than a Gaussian's

/** The log density of a multivariate Student-t at z = loc + factor u. */
function logStudent(u, factor) {
  const d = u.length;
  const square = u.reduce((sum, v) => sum + v * v, 0);
  const logDet = factor.reduce((sum, row, i) => sum + Math.log(row[i]), 0);
  return studentConstant(d) - logDet - ((DEGREES + d) / 2) * Math.log1p(square / DEGREES);
}

/** u, where z = loc + factor u. */
function standardised(z, { loc, factor }) {
  const u = new Float64Array(z.length);
  for (let i = 0; i < z.length; i++) {
    let sum = z[i] - loc[i];
    for (let j = 0; j < i; j++) sum -= factor[i][j] * u[j];
    u[i] = sum / factor[i][i];
  }
  return u;
}

/** A draw of a Student-t: loc + factor u. */
function drawOfStudent({ loc, factor }, random) {
  const normal = Float64Array.from(loc, random.normal);
  let chi = 0;
  for (let i = 0; i < DEGREES; i++) chi += random.normal() ** 2;
  const u = normal.map((v) => v / Math.sqrt(chi / DEGREES));
  return loc.map((v, i) => v + factor[i].reduce((sum, f, j) => sum + f * u[j], 0));
}

function studentConstant(d) {
  return logGamma((DEGREES + d) / 2) - logGamma(DEGREES / 2) - (d / 2) * Math.log(DEGREES * Math.PI);
}

/** log Gamma(a) for a > 0, by Lanczos' approximation. */
function logGamma(a) {
  const c = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155,
    0.1208650973866179e-2, -0.5395239384953e-5];
  const base = a + 5.5 - (a + 0.5) * Math.log(a + 5.5);
  const series = c.reduce((sum, v, i) => sum + v / (a + 1 + i), 1.000000000190015);
  return -base + Math.log((2.5066282746310005 * series) / a);
}

const ROUNDS = 8; // of a fit
const FITS = 3; // at most, one after another: a fit is taken up again until its weights can be trusted
const FRESH = 1000; // draws that are weighed in the end
const SEARCHED = 500; // draws of the prior, among which a second start is looked for
const MOST_SEARCHED = 10; // latent dimensions: in more, draws of the prior come near to nothing

/** A Student-t around a start, twice as wide as the guide, which is often too narrow. */
function firstFit(start, sd) {
  return { loc: start, factor: cholesky(Array.from(sd, (s, i) =>
    Float64Array.from(sd, (_, j) => (i === j ? 4 * s * s : 0)))) };
}

/**
 * Bring a Student-t nearer to the posterior: its mean and covariance become those of weighted draws,
 * round by round (adaptive importance sampling). `spent` is called after each draw.
 */
function fitted(fit, logJoint, random, spent) {
  const d = fit.loc.length;
  for (let round = 0; round < ROUNDS; round++) {
    const drawn = Array.from({ length: 60 + 12 * d }, () => {
      const z = drawOfStudent(fit, random);
      spent();
      return { z, logW: logJoint(z) - logStudent(standardised(z, fit), fit.factor) };
    });
    // where few weights count, all are flattened until 3 d of them do, or the fit would collapse
    let power = 1;
    let flat = drawn.map((draw) => draw.logW);
    while (effectiveSamples(flat) < Math.min(3 * d, drawn.length / 3) && power > 1e-3) {
      power *= 0.7;
      flat = drawn.map((draw) => power * draw.logW);
    }
    const w = shares(flat);
    const mean = (of) => drawn.reduce((sum, draw, k) => sum + w[k] * of(draw.z), 0);
    const loc = Float64Array.from(fit.loc, (_, i) => mean((z) => z[i]));
    // correlations are drawn towards zero by as much as few weights leave them uncertain
    const kept = effectiveSamples(flat) / (d + effectiveSamples(flat));
    fit = { loc, factor: cholesky(Array.from(loc, (_, i) => Float64Array.from(loc, (__, j) => {
      const covariance = mean((z) => (z[i] - loc[i]) * (z[j] - loc[j]));
      return 1.2 * (i === j ? covariance + 1e-6 : kept * covariance); // a little too wide is safe
    }))) };
  }
  return fit;
}

/**
 * Estimate log p(x) by fresh draws of Student-t distributions that are fitted to the posterior: one
 * from the guide's mean, one from the best of some draws of the prior. `report` is called with the
 * share of a fit that is done, and which fit that is.
 */
function refine(model, x, y, seed, report) {
  const random = randomNumbers(seed);
  const q = encode(model, x, y);
  const d = model.latentDim;
  const logJoint = (z) => logLikelihood(model, z, x, y) + logPrior(model, z, y);
  const starts = [q.loc];
  const searched = d <= MOST_SEARCHED ? SEARCHED : 0;
  const work = searched + (searched ? 2 : 1) * ROUNDS * (60 + 12 * d) + FRESH;
  let [done, fit] = [0, 1];
  const spent = () => report((done += 1) / work, fit);
  let best = -Infinity;
  for (let i = 0; i < searched; i++) {
    const z = latentOf(model, Float64Array.from({ length: d }, random.normal), y);
    const value = logJoint(z);
    spent();
    if (value > best) [best, starts[1]] = [value, z];
  }
  let fits = starts.map((start) => firstFit(start, q.sd));
  for (; ; fit += 1) {
    fits = fits.map((one) => fitted(one, logJoint, random, spent));
    const logW = Array.from({ length: FRESH }, (_, k) => {
      const z = drawOfStudent(fits[k % fits.length], random);
      spent();
      return logJoint(z) - logMean(fits.map((one) => logStudent(standardised(z, one), one.factor)));
    });
    const found = summary(logW);
    if (found.trusted || fit === FITS) return found;
    done = searched;
  }
}

/**
 * p(y | x) of every label by Bayes' rule, from `count` draws of the guide for each: by all of them,
 * and by each half, whose difference shows the error.
 */
function bayesRule(model, x, count, random) {
  const logP = model.classes.map((_, y) => {
    const q = encode(model, x, y);
    const half = () => Array.from({ length: count / 2 }, () => drawOfGuide(model, x, y, q, random).logW);
    return [logMean(half()), logMean(half())];
  });
  return { p: shares(logP.map(logMean)), halves: [0, 1].map((half) => shares(logP.map((both) => both[half]))) };
}

/** exp(l) of each l, over their sum. */
function shares(logs) {
  const top = Math.max(...logs);
  const w = logs.map((l) => Math.exp(l - top));
  const total = w.reduce((a, b) => a + b, 0);
  return w.map((v) => v / total);
}

/** The mean log weight, by `count` draws of the guide. */
function elbo(model, x, y, count, random) {
  const q = encode(model, x, y);
  let sum = 0;
  for (let k = 0; k < count; k++) sum += drawOfGuide(model, x, y, q, random).logW;
  return sum / count;
}

/**
 * Put a drawing, 28 x 28 grey levels, where MNIST puts its digits: fitted into a box of 20 x 20, and
 * moved by whole pixels until the centre of its mass is in the middle.
 */
function centred(pixels) {
  const size = 28;
  let [top, bottom, left, right] = [size, -1, size, -1];
  for (let r = 0; r < size; r++) {
    for (let c = 0; c < size; c++) {
      if (pixels[r * size + c] < 0.1) continue;
      top = Math.min(top, r);
      bottom = Math.max(bottom, r);
      left = Math.min(left, c);
      right = Math.max(right, c);
    }
  }
  if (bottom < 0) return Float32Array.from(pixels);
  const scale = 20 / Math.max(bottom - top + 1, right - left + 1);
  const at = (r, c) => (r < 0 || c < 0 || r >= size || c >= size ? 0 : pixels[r * size + c]);
  const bilinear = (r, c) => {
    const [r0, c0] = [Math.floor(r), Math.floor(c)];
    const [fr, fc] = [r - r0, c - c0];
    return (1 - fr) * ((1 - fc) * at(r0, c0) + fc * at(r0, c0 + 1))
      + fr * ((1 - fc) * at(r0 + 1, c0) + fc * at(r0 + 1, c0 + 1));
  };
  const render = (dr, dc) => Float32Array.from({ length: size * size }, (_, i) => {
    const r = (Math.floor(i / size) - 13.5 - dr) / scale + (top + bottom) / 2;
    const c = ((i % size) - 13.5 - dc) / scale + (left + right) / 2;
    return bilinear(r, c);
  });
  const first = render(0, 0);
  let [mass, row, column] = [0, 0, 0];
  first.forEach((v, i) => {
    mass += v;
    row += v * Math.floor(i / size);
    column += v * (i % size);
  });
  return render(Math.round(14 - row / mass), Math.round(14 - column / mass));
}
