// The model of Lab 2, computed in the browser: the functions of common/attention.py, common/transformer.py,
// common/heads.py and common/toy_language.py, in their names and in their order.
// A matrix is an array of rows. T words, H heads, d_model features of a word, d_head = d_model / H of them in a head.

// --- matrices ---

const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const transpose = (a) => a[0].map((_, j) => a.map((row) => row[j])); // (n, m) -> (m, n)
const add = (a, b) => a.map((row, i) => row.map((x, j) => x + b[i][j])); // (n, m), (n, m) -> (n, m)
const multiply = (a, factor) => a.map((row) => row.map((x) => x * factor));

function matmul(a, b) {
  const columns = transpose(b);
  return a.map((row) => columns.map((column) => dot(row, column))); // (n, m), (m, p) -> (n, p)
}

function softmax(scores) {
  const largest = Math.max(...scores); // taken away first: e^1000 would be infinite, and the result is the same
  const powers = scores.map((score) => Math.exp(score - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

// --- common/attention.py ---

// mask[i][j] = true: query i may attend to key j. Each query may attend at least to itself here.
// factor: on the usual scale 1/sqrt(d_k).
function attention_weights(q, k, mask = null, factor = 1) {
  const scale = factor / Math.sqrt(q[0].length);
  let scores = multiply(matmul(q, transpose(k)), scale); // (T, T)
  if (mask !== null) {
    scores = scores.map((row, i) => row.map((score, j) => (mask[i][j] ? score : -Infinity)));
  }
  return scores.map(softmax); // (T, T), each row sums to 1
}

function causal_mask(n) {
  return Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => j <= i)); // (n, n)
}

class MultiHeadAttention {
  constructor(layers, n_heads) {
    Object.assign(this, layers); // w_q, w_k, w_v, w_o
    this.n_heads = n_heads;
    this.d_head = layers.w_q.bias.length / n_heads;
  }

  // query (T, d_model) -> output (T, d_model), weights (H, T, T), and q and k (H, T, d_head) to look at
  forward(query, mask = null, { factor = 1, silenced_heads = [] } = {}) {
    const q = this.split_heads(linear(query, this.w_q)); // (H, T, d_head)
    const k = this.split_heads(linear(query, this.w_k)); // (H, T, d_head)
    const v = this.split_heads(linear(query, this.w_v)); // (H, T, d_head)
    const weights = q.map((_, h) => attention_weights(q[h], k[h], mask, factor)); // (H, T, T)
    const heads = weights.map((_, h) => matmul(weights[h], v[h])); // (H, T, d_head)
    const w_o = silenced(this.w_o, silenced_heads, this.d_head);
    return { output: linear(this.merge_heads(heads), w_o), weights, q, k };
  }

  // (T, d_model) -> (H, T, d_head): head h gets the features h*d_head .. (h+1)*d_head - 1
  split_heads(x) {
    return Array.from({ length: this.n_heads }, (_, h) =>
      x.map((row) => row.slice(h * this.d_head, (h + 1) * this.d_head)),
    );
  }

  // (H, T, d_head) -> (T, d_model)
  merge_heads(heads) {
    return heads[0].map((_, t) => heads.flatMap((head) => head[t]));
  }
}

// --- common/heads.py ---

// The columns of W_O that read the outputs of these heads are zero, so that they contribute nothing.
function silenced(w_o, heads, d_head) {
  const keeps = (column) => !heads.includes(Math.floor(column / d_head));
  return { weight: w_o.weight.map((row) => row.map((x, column) => (keeps(column) ? x : 0))), bias: w_o.bias };
}

// --- torch.nn ---

// x W^T + b: x (T, n_in), weight (n_out, n_in), bias (n_out) -> (T, n_out)
function linear(x, { weight, bias }) {
  return x.map((row) => weight.map((w, j) => dot(row, w) + bias[j]));
}

// Over the features of each word alone; torch divides by n, and adds epsilon under the root.
function layer_norm(x, { weight, bias }) {
  return x.map((row) => {
    const mean = row.reduce((a, b) => a + b, 0) / row.length;
    const variance = row.reduce((sum, a) => sum + (a - mean) ** 2, 0) / row.length;
    return row.map((a, j) => ((a - mean) / Math.sqrt(variance + 1e-5)) * weight[j] + bias[j]);
  });
}

// x Phi(x), with the distribution function Phi of the normal distribution
const gelu = (x) => (x / 2) * (1 + erf(x / Math.SQRT2));

// 2/sqrt(pi) e^(-x^2) (x + 2 x^3 / 3 + 4 x^5 / (3 5) + ...): all terms have one sign, so no digit is lost
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x); // equal in double precision
  let [term, sum] = [x, x];
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

// --- common/transformer.py ---

class TransformerBlock {
  constructor({ attention, feed_forward, norm_1, norm_2 }, n_heads) {
    this.attention = new MultiHeadAttention(attention, n_heads);
    Object.assign(this, { norm_1, norm_2, w_1: feed_forward[0], w_2: feed_forward[3] });
  }

  // post-norm: h = LN(x + Attention(x)), y = LN(h + FFN(h)); (T, d_model) -> (T, d_model)
  forward(x, mask, options) {
    const attended = this.attention.forward(x, mask, options);
    const normed = layer_norm(add(x, attended.output), this.norm_1);
    return { ...attended, output: layer_norm(add(normed, this.feed_forward(normed)), this.norm_2) };
  }

  feed_forward(h) {
    const inner = linear(h, this.w_1).map((row) => row.map(gelu)); // (T, d_ff)
    return linear(inner, this.w_2); // (T, d_model)
  }
}

// --- common/toy_language.py ---

class MaskedWordModel {
  constructor(n_heads, { embedding, position, block, to_scores }) {
    Object.assign(this, { embedding: embedding.weight, position: position.table, to_scores });
    this.block = new TransformerBlock(block, n_heads);
  }

  embed(tokens, positions) {
    const words = tokens.map((token) => this.embedding[token]); // (T, d_model)
    return positions ? add(words, this.position.slice(0, tokens.length)) : words;
  }

  // tokens (T) -> scores (T, vocabulary), weights (H, T, T), q and k (H, T, d_head)
  // positions: whether they are added; causal: whether a word sees no later one; factor: on the scores
  forward(tokens, { positions = true, causal = false, factor = 1, silenced_heads = [] } = {}) {
    const mask = causal ? causal_mask(tokens.length) : null;
    const { output, weights, q, k } = this.block.forward(this.embed(tokens, positions), mask, { factor, silenced_heads });
    return { scores: linear(output, this.to_scores), weights, q, k };
  }
}

// --- the weights in the page ---

// {"block.norm_1.bias": {shape, values}, ...} -> {block: {norm_1: {bias: [...]}}}, as the names in torch are nested
function unpack(named) {
  const tree = {};
  for (const [name, { shape, values }] of Object.entries(named)) {
    const path = name.split(".");
    const last = path.pop();
    const place = path.reduce((node, part) => (node[part] ??= {}), tree);
    const numbers = decode_float32(values);
    const rows = () => Array.from({ length: shape[0] }, (_, i) => numbers.slice(i * shape[1], (i + 1) * shape[1]));
    place[last] = shape.length === 2 ? rows() : numbers;
  }
  return tree;
}

// base64 of little-endian float32 -> numbers
function decode_float32(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}
