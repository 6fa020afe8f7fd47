// Networks as lists of layers, run on typed arrays. The same layers as in torch, in float32.
"use strict";

const halves = new Float32Array(1 << 16); // the value of every float16
for (let bits = 0; bits < 1 << 16; bits++) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) halves[bits] = (sign * fraction) / 2 ** 24;
  else if (exponent === 31) halves[bits] = fraction ? NaN : sign * Infinity;
  else halves[bits] = sign * 2 ** (exponent - 15) * (1 + fraction / 1024);
}

/** Return the weights that `where` = {at, shape, half} names in the page's bytes. */
function weightsAt(bytes, where) {
  const count = where.shape.reduce((a, b) => a * b, 1);
  if (!where.half) return new Float32Array(bytes, where.at, count);
  return Float32Array.from(new Uint16Array(bytes, where.at, count), (bits) => halves[bits]);
}

/** Replace, in a layer or a list of maps, every {at, shape, half} by its array. */
function unpack(bytes, thing) {
  if (Array.isArray(thing)) return thing.map((part) => unpack(bytes, part));
  if (thing === null || typeof thing !== "object") return thing;
  if ("at" in thing) return weightsAt(bytes, thing);
  return Object.fromEntries(Object.entries(thing).map(([key, part]) => [key, unpack(bytes, part)]));
}

/** out = weight x + bias. With labels of its own, `weight` is (outputs, labels, inputs). */
function linear(layer, x, y) {
  const { inputs, outputs, weight, bias, labels, oneHot } = layer;
  const out = new Float32Array(outputs);
  const columns = inputs + oneHot;
  for (let o = 0; o < outputs; o++) {
    const row = (labels ? o * labels + y : o) * columns;
    let sum = bias[labels ? o * labels + y : o];
    for (let i = 0; i < inputs; i++) sum += weight[row + i] * x[i];
    if (oneHot) sum += weight[row + inputs + y];
    out[o] = sum;
  }
  return out;
}

/** A convolution without padding, of step 1. x is (channels, height, width). */
function conv2d(layer, x) {
  const { inputs, outputs, kernel, height, width, weight, bias } = layer;
  const rows = height - kernel + 1;
  const columns = width - kernel + 1;
  const out = new Float32Array(outputs * rows * columns);
  for (let o = 0; o < outputs; o++) {
    out.fill(bias[o], o * rows * columns, (o + 1) * rows * columns);
    for (let i = 0; i < inputs; i++) {
      for (let ky = 0; ky < kernel; ky++) {
        for (let kx = 0; kx < kernel; kx++) {
          const w = weight[((o * inputs + i) * kernel + ky) * kernel + kx];
          for (let r = 0; r < rows; r++) {
            const to = (o * rows + r) * columns;
            const from = (i * height + r + ky) * width + kx;
            for (let c = 0; c < columns; c++) out[to + c] += w * x[from + c];
          }
        }
      }
    }
  }
  return out;
}

/** The largest of each block of size x size pixels. */
function maxPool(layer, x) {
  const { channels, size, height, width } = layer;
  const rows = Math.floor(height / size);
  const columns = Math.floor(width / size);
  const out = new Float32Array(channels * rows * columns).fill(-Infinity);
  for (let channel = 0; channel < channels; channel++) {
    for (let r = 0; r < rows * size; r++) {
      for (let c = 0; c < columns * size; c++) {
        const at = (channel * rows + Math.floor(r / size)) * columns + Math.floor(c / size);
        out[at] = Math.max(out[at], x[(channel * height + r) * width + c]);
      }
    }
  }
  return out;
}

const activations = {
  relu: (value) => (value > 0 ? value : 0),
  tanh: Math.tanh,
  sigmoid: (value) => 1 / (1 + Math.exp(-value)),
};

/** Apply the layers, one after the other, to one input; y is its label, where there are labels. */
function runLayers(layers, input, y) {
  let x = input;
  for (const layer of layers) {
    if (layer.type === "linear") x = linear(layer, x, y);
    else if (layer.type === "conv2d") x = conv2d(layer, x);
    else if (layer.type === "maxpool") x = maxPool(layer, x);
    else if (layer.type === "leaky") x = x.map((v) => (v > 0 ? v : layer.slope * v));
    else x = x.map(activations[layer.type]);
  }
  return x;
}

/** The shift and the log scale of each coordinate, by a masked network of one hidden layer. */
function shiftAndScale(map, z, y, classes) {
  const d = z.length;
  const { hidden, first, firstBias, last, lastBias } = map;
  const activity = new Float64Array(hidden);
  for (let h = 0; h < hidden; h++) {
    let sum = firstBias[h] + first[h * (classes + d) + y];
    for (let i = 0; i < d; i++) sum += first[h * (classes + d) + classes + i] * z[i];
    activity[h] = sum > 0 ? sum : 0;
  }
  const out = new Float64Array(2 * d);
  for (let o = 0; o < 2 * d; o++) {
    let sum = lastBias[o];
    for (let h = 0; h < hidden; h++) sum += last[o * hidden + h] * activity[h];
    out[o] = sum;
  }
  const logScale = out.slice(d).map((v) => Math.min(3, Math.max(-5, v)));
  return { shift: out.slice(0, d), logScale };
}

/** z = T_y(e): from a style to a latent. Without a learned prior z is e. */
function latentOf(model, e, y) {
  const { prior } = model;
  if (!prior) return Float64Array.from(e);
  const row = prior.classes > 1 ? y : 0; // one map for all, where there are no labels
  let value = Float64Array.from(e);
  for (const map of prior.maps) {
    const z = new Float64Array(value.length);
    for (const i of map.order) {
      const { shift, logScale } = shiftAndScale(map, z, row, prior.classes);
      z[i] = (value[i] - shift[i]) * Math.exp(-logScale[i]);
    }
    value = z;
  }
  return value.map((v, i) => prior.loc[row * value.length + i]
    + Math.exp(prior.logScale[row * value.length + i]) * v);
}

/** e = T_y^-1(z), and the log determinant of this map. */
function styleOf(model, z, y) {
  const { prior } = model;
  if (!prior) return { e: Float64Array.from(z), logDet: 0 };
  const row = prior.classes > 1 ? y : 0;
  let logDet = 0;
  let e = Float64Array.from(z, (v, i) => {
    const logScale = prior.logScale[row * z.length + i];
    logDet -= logScale;
    return (v - prior.loc[row * z.length + i]) * Math.exp(-logScale);
  });
  for (const map of [...prior.maps].reverse()) {
    const { shift, logScale } = shiftAndScale(map, e, row, prior.classes);
    e = e.map((v, i) => shift[i] + Math.exp(logScale[i]) * v);
    logDet += logScale.reduce((a, b) => a + b, 0);
  }
  return { e, logDet };
}

/** The logits of the pixels at z. */
function logitsAt(model, z, y) {
  return runLayers(model.decoder, Float32Array.from(z), y);
}

/** The mean image at z. */
function imageAt(model, z, y) {
  return logitsAt(model, z, y).map(activations.sigmoid);
}

/** q(z | x): the mean and the standard deviation of each coordinate. */
function encode(model, x, y) {
  const params = runLayers(model.encoder, Float32Array.from(x), y);
  const d = model.latentDim;
  return { loc: Float64Array.from(params.slice(0, d)),
    sd: Float64Array.from(params.slice(d), (v) => Math.exp(v / 2)) };
}
