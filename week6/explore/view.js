// How the page is drawn: each draw_... brings one section up to date with the state and with what the model said.

const by_id = (id) => document.getElementById(id);
const fixed = (x, digits = 2) => x.toFixed(digits);
const shown_word = (i) => (i === state.hidden ? `<${state.words[i]}>` : state.words[i]); // as in the labs' figures
const index_of_largest = (values) => values.indexOf(Math.max(...values));

// element("li", {class: "big"}, "text", another element); svg("rect", {x: 1}) likewise
function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

// --- what is looked at ---

let pointed = null; // the word under the pointer, or null
let pointed_key = null; // the word that the cell under the pointer looks at, or null
let focusable_word = 0; // where Tab enters the sentence; arrow keys lead on

// The row that is shown: under the pointer, else chosen, else the gap, else the first word.
const shown_query = () => pointed ?? chosen_query();
const chosen_query = () => state.query ?? state.hidden ?? 0;
const chosen_key = (now) => state.key ?? index_of_largest(now.weights[state.head][chosen_query()]);

// --- texts, sentence, prediction, switches ---

function draw_texts() {
  document.documentElement.lang = language;
  document.title = say("title");
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = say(node.dataset.text);
  by_id("language").textContent = say("other_language");
  by_id("language").lang = language === "en" ? "ko" : "en";
  by_id("notice").textContent = say("fast");
  by_id("notice").hidden = !COURSE.fast;
  draw_presets();
}

// With their gaps, under what one has to know to fill them.
function draw_presets() {
  const groups = new Map();
  COURSE.presets.forEach(([sentence, hidden, skill], i) => {
    if (!groups.has(skill)) groups.set(skill, element("optgroup", { label: say(`skill_${skill}`) }));
    groups.get(skill).append(element("option", { value: i }, gapped({ words: sentence.split(" "), hidden })));
  });
  by_id("preset").replaceChildren(element("option", { value: "" }, say("own")), ...groups.values());
}

// All words of the language in their groups; made once. A click puts one into the field.
function make_word_groups() {
  for (const [group, words] of Object.entries(COURSE.word_groups)) {
    const buttons = words.map((word) => element("button", { type: "button", "data-insert": word }, word));
    const name = element("span", { class: "small", "data-text": `group_${group}` });
    by_id("word-groups").append(element("p", {}, name, " ", element("span", { class: "group", lang: "en" }, ...buttons)));
  }
}

function draw_sentence() {
  const box = by_id("words");
  while (box.children.length > state.words.length) box.lastChild.remove();
  while (box.children.length < state.words.length) box.append(element("button", { type: "button", tabindex: -1 }));
  focusable_word = Math.min(focusable_word, state.words.length - 1);
  state.words.forEach((word, i) => {
    const button = box.children[i];
    button.textContent = word;
    button.dataset.word = i;
    button.tabIndex = i === focusable_word ? 0 : -1;
    button.setAttribute("aria-pressed", i === state.hidden);
    button.classList.toggle("looking", i === shown_query());
  });
  const shown = state.words.join(" ");
  const preset = COURSE.presets.findIndex(([sentence, hidden]) => sentence === shown && hidden === state.hidden);
  by_id("preset").value = preset < 0 ? "" : preset;
}

// The five most probable words, and the right one if it is not among them.
function draw_prediction({ now, trained }) {
  const { hidden } = state;
  by_id("prediction-title").textContent = say(hidden === null ? "nothing_hidden" : "prediction_title");
  by_id("bars-help").textContent = say(hidden === null ? "hide_first" : "bars_help");
  if (hidden === null) return by_id("bars").replaceChildren();
  const right = IDS.get(state.words[hidden]);
  const order = now.probabilities.map((_, id) => id).sort((a, b) => now.probabilities[b] - now.probabilities[a]);
  const best = order.slice(0, 5);
  const shown = best.includes(right) ? best : [...best, right];
  const rows = shown.map((id) => {
    const bar = element("span", { class: "bar" });
    bar.style.width = `${100 * now.probabilities[id]}%`;
    const mark = element("span", { class: "mark" });
    mark.style.left = `${100 * trained.probabilities[id]}%`;
    const name = element("span", { class: "name" }, COURSE.vocabulary[id]);
    const value = element("span", { class: "value" }, fixed(now.probabilities[id]));
    const track = element("span", { class: "track" }, bar, mark);
    const row = element("div", { class: id === right ? "row right" : "row" }, name, track, value);
    const rank = order.indexOf(id) + 1;
    const tag = say(rank === 1 ? "right_word_first" : "right_word", { rank });
    if (id === right) row.append(element("span", { class: "tag", lang: language }, tag));
    return row;
  });
  return by_id("bars").replaceChildren(...rows);
}

function draw_switches() {
  by_id("positions").checked = state.positions;
  by_id("causal").checked = state.causal;
  by_id("factor").max = FACTORS.length - 1;
  by_id("factor").value = FACTORS.indexOf(state.factor);
  by_id("factor-value").textContent = factor_text(state.factor);
  by_id("factor").setAttribute("aria-valuetext", factor_text(state.factor));
  for (const box of document.querySelectorAll("input[data-silence]")) {
    box.checked = state.silenced_heads.includes(Number(box.dataset.silence));
  }
}

function factor_text(times) {
  const values = { factor: fixed(times / Math.sqrt(D_HEAD), 3), d: D_HEAD, times };
  if (times === 0) return say("factor_zero");
  if (times === 1) return say("factor_trained", values);
  return say(times === Math.sqrt(D_HEAD) ? "factor_undivided" : "factor_times", values);
}

// The line at the foot of the window: what the changes did to the hidden word.
function draw_effect(answer) {
  by_id("effect").textContent = effect_text(answer);
}

function effect_text({ now, trained }) {
  const most = COURSE.max_words;
  if (is_old()) return say(split_words(typed.value).length > most ? "effect_long" : "effect_old", { most });
  if (state.hidden === null) return say("effect_no_gap");
  const word = state.words[state.hidden];
  const [before, after] = [trained, now].map(({ probabilities }) => fixed(probabilities[IDS.get(word)]));
  const changes = list_of_changes().join(", ");
  const text = say(changes === "" ? "effect_none" : "effect", { word, before, after, changes });
  const first = first_guess(now);
  return first.word === word ? text : `${text} · ${say("effect_first", first)}`;
}

// {word, p}: the most probable word at the gap
function first_guess({ probabilities }) {
  const id = index_of_largest(probabilities);
  return { word: COURSE.vocabulary[id], p: fixed(probabilities[id]) };
}

function list_of_changes() {
  const changes = [];
  if (state.silenced_heads.length > 0) changes.push(say("changed_heads", { heads: state.silenced_heads.join(", ") }));
  if (!state.positions) changes.push(say("changed_positions"));
  if (state.causal) changes.push(say("changed_causal"));
  if (state.factor !== 1) changes.push(say("changed_factor", { factor: fixed(state.factor / Math.sqrt(D_HEAD), 3) }));
  return changes;
}

// --- heads ---

const MAP = { width: 360, arcs: 56, labels: 74, right: 20 }; // in units of the drawing
const LEFT = MAP.arcs + MAP.labels; // where the cells start
const SMALLEST_WITH_NUMBER = 20; // a cell that has room for ".31"

// The cards and switches, one a head; made once, so that the keyboard's focus stays where it is.
function make_heads() {
  by_id("viridis").style.background = `linear-gradient(to right, ${COURSE.viridis.filter((_, i) => i % 15 === 0).join(",")})`;
  for (const head of head_numbers()) {
    const silence = () => element("input", { type: "checkbox", "data-silence": head });
    const name = () => element("span", { "data-text": "head" });
    by_id("silence").append(element("label", { class: "switch" }, silence(), element("span", {}, String(head))));
    const title = element("h3", {}, name(), ` ${head} `, element("span", { class: "most small" }));
    const switch_off = element("label", { class: "switch" }, silence(), element("span", { "data-text": "silence" }));
    const map = svg("svg", { tabindex: 0, role: "application", "data-head": head });
    const cell = element("p", { class: "small cell", lang: "en" });
    by_id("cards").append(element("div", { class: "card" }, element("div", { class: "title" }, title, switch_off), map, cell));
  }
}

function draw_heads({ now }) {
  by_id("stretched").checked = state.stretched;
  by_id("gap-help").textContent = state.hidden === null ? "" : say("gap_help", { word: shown_word(state.hidden) });
  by_id("scale-end").textContent = state.stretched ? say("largest_of_head") : "1";
  for (const head of head_numbers()) {
    const card = by_id("cards").children[head];
    card.classList.toggle("silenced", state.silenced_heads.includes(head));
    const map = card.querySelector("svg");
    map.setAttribute("aria-label", say("map_label", { head }));
    card.querySelector(".most").textContent = state.stretched ? say("most", { most: fixed(scale_end(head, now)) }) : "";
    draw_map(map, head, now);
    draw_cell_text(card, head, now);
  }
}

// The weight with the last colour of the scale.
const scale_end = (head, now) => (state.stretched ? Math.max(...now.weights[head].flat()) : 1);
const cell_size = () => Math.min(28, (MAP.width - LEFT - MAP.right) / state.words.length);
const top_of_cells = () => 20 + 4.6 * Math.max(...state.words.map((word) => word.length)); // room for slanted words
const row_y = (i) => top_of_cells() + (i + 0.5) * cell_size();

function draw_map(map, head, now) {
  if (map.dataset.words !== state.words.join(" ")) build_map(map);
  const [cells, chosen, columns, labels, , numbers] = map.children;
  const end = scale_end(head, now);
  state.words.forEach((_, i) => {
    columns.children[i].textContent = labels.children[i].textContent = shown_word(i);
  });
  now.weights[head].flat().forEach((weight, i) => {
    const colour = Math.round((255 * weight) / end);
    cells.children[i].setAttribute("fill", COURSE.viridis[colour]);
    const number = numbers.children[i];
    if (number === undefined) return; // the cells are too small
    number.textContent = weight < 0.005 ? "" : fixed(weight).replace(/^0/, "");
    number.classList.toggle("on-bright", colour > 150);
  });
  chosen.setAttribute("visibility", head === state.head ? "visible" : "hidden");
  for (const edge of chosen.children) {
    edge.setAttribute("x", chosen_key(now));
    edge.setAttribute("y", chosen_query());
  }
  draw_arcs(map, now.weights[head]);
}

// All that stays as long as the words do: making it takes longer than changing its colours. A cell's x is its key, its y
// its query.
function build_map(map) {
  const [n, size, top] = [state.words.length, cell_size(), top_of_cells()];
  const numbers = state.words.map((_, i) => i);
  const in_cells = { transform: `translate(${LEFT} ${top}) scale(${size})` };
  const square = { width: 1, height: 1 };
  const cells = numbers.flatMap((y) => numbers.map((x) => svg("rect", { x, y, ...square })));
  const edges = ["white", "chosen"].map((name) => svg("rect", { class: name, ...square }));
  const centre = (i, first) => first + (i + 0.5) * size;
  const shown = size < SMALLEST_WITH_NUMBER ? [] : cells;
  const texts = shown.map((_, i) => svg("text", { x: centre(i % n, LEFT), y: centre(Math.floor(i / n), top) }));
  const slanted = (i) => `translate(${LEFT + (i + 0.5) * size} ${top - 6}) rotate(-50)`;
  map.dataset.words = state.words.join(" ");
  map.setAttribute("viewBox", `0 0 ${MAP.width} ${top + n * size + 4}`);
  map.replaceChildren(
    svg("g", { class: "cells", ...in_cells }, ...cells),
    svg("g", { class: "edges", ...in_cells }, ...edges),
    svg("g", {}, ...numbers.map((i) => svg("text", { transform: slanted(i) }))),
    svg("g", {}, ...numbers.map((i) => svg("text", { class: "label", x: MAP.arcs + 4, y: row_y(i), "data-query": i }))),
    svg("g", { class: "arcs" }),
    svg("g", { class: "numbers" }, ...texts),
  );
}

// {query, key} of the cell or label at an event; key is null on a label, both are null elsewhere.
function cell_at(target) {
  if (target.matches(".cells rect")) return { query: Number(target.getAttribute("y")), key: Number(target.getAttribute("x")) };
  return { query: target.matches(".label") ? Number(target.dataset.query) : null, key: null };
}

// From the row that is shown to each word it looks at: the wider, the more weight.
function draw_arcs(map, weights) {
  const query = shown_query();
  const arcs = weights[query].map((weight, key) => {
    if (weight < 0.01) return null;
    const [from, to] = [row_y(query), row_y(key)];
    const reach = MAP.arcs - Math.min(MAP.arcs - 2, 12 + 8 * Math.abs(query - key)) * 1.25;
    const d = `M ${MAP.arcs} ${from} C ${reach} ${from} ${reach} ${to} ${MAP.arcs} ${to}`;
    const style = { "stroke-width": 1 + 6 * weight, opacity: 0.2 + 0.8 * weight };
    if (key !== query) return svg("path", { d, ...style });
    return svg("circle", { cx: MAP.arcs - 7, cy: from, r: 5, ...style });
  });
  map.querySelector(".arcs").replaceChildren(...arcs.filter((arc) => arc !== null));
  for (const label of map.querySelectorAll(".label")) {
    label.classList.toggle("looking", Number(label.dataset.query) === query);
  }
}

function draw_cell_text(card, head, now) {
  const query = shown_query();
  const chosen = pointed === null && head === state.head ? chosen_key(now) : index_of_largest(now.weights[head][query]);
  const key = pointed_key ?? chosen;
  const weight = fixed(now.weights[head][query][key]);
  card.querySelector(".cell").textContent = say("cell", { query: shown_word(query), key: shown_word(key), weight });
}

// Only what follows the pointer.
function draw_pointed({ now }) {
  for (const head of head_numbers()) {
    const card = by_id("cards").children[head];
    draw_arcs(card.querySelector("svg"), now.weights[head]);
    draw_cell_text(card, head, now);
  }
  for (const button of by_id("words").children) {
    button.classList.toggle("looking", Number(button.dataset.word) === shown_query());
  }
}

// --- the path of one weight ---

function draw_path({ now }) {
  const { head } = state;
  const [query, key, n] = [chosen_query(), chosen_key(now), state.words.length];
  const options = (labels, chosen) => labels.map((label, i) => element("option", { value: i, selected: i === chosen }, label));
  const words = state.words.map((_, i) => `${i + 1} ${shown_word(i)}`);
  by_id("path-head").replaceChildren(...options(head_numbers().map((number) => `${say("head")} ${number}`), head));
  by_id("path-query").replaceChildren(...options(words, query));
  by_id("path-key").replaceChildren(...options(words, key));

  const [q, k] = [now.q[head][query], now.k[head]]; // (d_head), (T, d_head)
  const factor = state.factor / Math.sqrt(D_HEAD);
  const dots = k.map((row) => dot(q, row)); // (T)
  const attends = (j) => !state.causal || j <= query;
  const largest = Math.max(...dots.filter((_, j) => attends(j)).map((x) => x * factor));
  const powers = dots.map((x, j) => (attends(j) ? Math.exp(x * factor - largest) : 0)); // (T)
  const sum = powers.reduce((a, b) => a + b, 0);

  const features = q.map((x, i) => [String(i), fixed(x), fixed(k[key][i]), fixed(x * k[key][i])]);
  const products = table(
    [say("feature"), `q “${shown_word(query)}”`, `k “${shown_word(key)}”`, say("product")],
    [...features, [say("sum"), "", "", fixed(dots[key])]],
    D_HEAD,
  );
  const rows = dots.map((x, j) => {
    if (!attends(j)) return [shown_word(j), fixed(x), say("masked"), "0", "0.00"];
    return [shown_word(j), fixed(x), fixed(x * factor), fixed(powers[j], 3), fixed(powers[j] / sum)];
  });
  const head_row = [say("key"), "q · k", `× ${fixed(factor, 3)}`, "e^(…)", say("weight")];
  const keys = table(head_row, [...rows, [say("sum"), "", "", fixed(sum, 3), "1.00"]], key);
  const result = { query: shown_word(query), key: shown_word(key), power: fixed(powers[key], 3), sum: fixed(sum, 3) };
  const scaling = { score: fixed(dots[key]), factor: fixed(factor, 3), scaled: fixed(dots[key] * factor) };
  by_id("steps").replaceChildren(
    element("div", {}, element("p", {}, say("step_dot", { d: D_HEAD })), products),
    element(
      "div",
      {},
      element("p", {}, say("step_scale", scaling)),
      element("p", {}, say("step_softmax")),
      keys,
      element("p", {}, say("step_result", { ...result, weight: fixed(powers[key] / sum) })),
      element("p", { class: "small" }, say("even", { even: fixed(1 / (state.causal ? query + 1 : n)) })),
    ),
  );
}

// A table whose first column is text; row number `marked` stands out.
function table(header, rows, marked) {
  const cells = (name, row) => row.map((cell) => element(name, {}, cell));
  const body = rows.map((row, i) => element("tr", i === marked ? { class: "marked" } : {}, ...cells("td", row)));
  const head = element("tr", {}, ...cells("th", header));
  return element("div", { class: "table" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
}
