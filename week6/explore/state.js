// What the page shows: a sentence, its gap, what was changed in the model, and the weight that is looked at. All of it
// fits into a link.

const read_json = (id) => JSON.parse(document.getElementById(id).textContent);
const COURSE = read_json("course");
const IDS = new Map(COURSE.vocabulary.map((word, id) => [word, id]));
const WORDS = COURSE.vocabulary.filter((word) => !word.startsWith("<")).sort(); // without padding and mask
const MODEL = new MaskedWordModel(COURSE.n_heads, unpack(read_json("weights")));
const D_HEAD = MODEL.block.attention.d_head;
// Multiples of 1/sqrt(d_head); sqrt(d_head) itself leaves the division out.
const FACTORS = [...new Set([0, 0.25, 0.5, 1, 2, 4, 8, 16, Math.sqrt(D_HEAD)])].sort((a, b) => a - b);
const AS_TRAINED = { positions: true, causal: false, factor: 1, silenced_heads: [] };

// hidden: position of the gap, or null. query: the row that is looked at; null is the gap. key: null is the most looked at.
// stretched: whether each head's colours end at its own largest weight, and not at 1.
function first_state() {
  const [sentence, hidden] = COURSE.presets[0];
  return { words: sentence.split(" "), hidden, ...AS_TRAINED, head: 0, query: null, key: null, stretched: false };
}

let state = first_state();

// The words of a text, without punctuation.
const split_words = (text) => text.toLowerCase().replace(/[,.!?;:]/g, " ").split(/\s+/).filter((word) => word !== "");

function is_sentence(words) {
  return words.length >= 2 && words.length <= COURSE.max_words && words.every((word) => WORDS.includes(word));
}

function changes_of({ positions, causal, factor, silenced_heads }) {
  return { positions, causal, factor, silenced_heads };
}

// --- what the model says about a state ---

const softmax_at = (scores, at) => softmax(scores[at]);

// now, trained: from the changed model and from the model as trained, {weights, q, k, probabilities at the gap or null}
function ask(state) {
  const { words, hidden } = state;
  const tokens = words.map((word, i) => (i === hidden ? COURSE.mask : IDS.get(word)));
  const answer = (changes) => {
    const found = MODEL.forward(tokens, changes);
    return { ...found, probabilities: hidden === null ? null : softmax_at(found.scores, hidden) };
  };
  return { now: answer(changes_of(state)), trained: answer(AS_TRAINED) };
}

// --- the link ---

function link_of(state) {
  const link = new URLSearchParams({ words: state.words.join(" ") });
  if (state.hidden !== null) link.set("hidden", state.hidden);
  if (!state.positions) link.set("positions", "off");
  if (state.causal) link.set("causal", "on");
  if (state.factor !== 1) link.set("factor", state.factor);
  if (state.silenced_heads.length > 0) link.set("silenced", state.silenced_heads.join("."));
  if (state.head !== 0) link.set("head", state.head);
  if (state.query !== null) link.set("query", state.query);
  if (state.key !== null) link.set("key", state.key);
  if (state.stretched) link.set("colours", "stretched");
  link.set("language", language);
  return `#${link}`;
}

// The state in a link; what is missing or impossible in it is as at first.
function state_of(hash) {
  const link = new URLSearchParams(hash.slice(1));
  const found = first_state();
  const whole = (name, limit) => {
    const text = link.get(name);
    return text !== null && /^\d+$/.test(text) && Number(text) < limit ? Number(text) : null;
  };
  if (["en", "ko"].includes(link.get("language"))) language = link.get("language");
  const words = split_words(link.get("words") ?? "");
  if (!is_sentence(words)) return found;
  const silenced = (link.get("silenced") ?? "").split(".");
  return {
    words,
    hidden: whole("hidden", words.length),
    positions: link.get("positions") !== "off",
    causal: link.get("causal") === "on",
    factor: FACTORS.find((factor) => String(factor) === link.get("factor")) ?? 1,
    silenced_heads: head_numbers().filter((head) => silenced.includes(String(head))),
    head: whole("head", COURSE.n_heads) ?? 0,
    query: whole("query", words.length),
    key: whole("key", words.length),
    stretched: link.get("colours") === "stretched",
  };
}

const head_numbers = () => Array.from({ length: COURSE.n_heads }, (_, head) => head);
