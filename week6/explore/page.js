// What happens on a click, a key or a typed word; and how the page starts.

// --- one change: new state, new answer, new drawing, new link ---

let answer = null; // what the model says about the state, {now, trained}
let link_timer = null;

function update(changes) {
  state = { ...state, ...changes };
  answer_and_draw();
  clearTimeout(link_timer); // browsers refuse a new address many times a second
  link_timer = setTimeout(() => history.replaceState(null, "", link_of(state)), 300);
}

function answer_and_draw() {
  answer = ask(state);
  observe(state, answer);
  draw_sentence();
  draw_prediction(answer);
  draw_switches();
  draw_heads(answer);
  draw_path(answer);
  draw_tasks(answer);
  draw_old();
}

// --- the sentence: typed, picked, hidden ---

const typed = by_id("typed");
const completions = by_id("completions");
let chosen_completion = -1;

function read_typed() {
  const words = split_words(typed.value);
  const unknown = words.filter((word) => !WORDS.includes(word));
  draw_completions();
  const being_typed = completions.hidden ? null : word_at_caret().word;
  draw_problem(words, unknown.filter((word) => word !== being_typed));
  if (is_sentence(words) && is_old()) update({ words, hidden: gap_in(words), query: null, key: null });
  draw_old();
}

let gap_follows = false; // whether typing has put the gap; each new word then puts it anew

// Where the gap is in new words: at the same word if that is still there, else at the last present verb, else at the end.
function gap_in(words) {
  const { hidden } = state;
  const from_end = words.length - (state.words.length - hidden); // its place if words were put in before it
  const stays = hidden !== null && !gap_follows;
  const kept = stays ? [hidden, from_end].find((i) => words[i] === state.words[hidden]) : undefined;
  gap_follows = kept === undefined;
  const verb = words.findLastIndex(is_present_verb);
  return kept ?? (verb < 0 ? words.length - 1 : verb);
}

// Whether the page still shows the sentence before, because what is typed is not one.
const is_old = () => split_words(typed.value).join(" ") !== state.words.join(" ");

function draw_old() {
  const help = by_id("words-help");
  document.body.classList.toggle("old", is_old());
  help.dataset.text = is_old() ? "old_sentence" : "words_help";
  help.textContent = say(help.dataset.text);
  draw_effect(answer);
}

function draw_problem(words, unknown) {
  const problem = by_id("problem");
  problem.replaceChildren();
  for (const word of new Set(unknown)) {
    const attributes = { type: "button", "data-replace": word, lang: "en" };
    const near = neighbours(word).map((known) => element("button", attributes, known));
    problem.append(element("span", {}, say("unknown", { word }), ...near));
  }
  if (words.length < 2 || words.length > COURSE.max_words) {
    problem.append(say("length", { most: COURSE.max_words, n: words.length }));
  } else if (unknown.length === 0) return;
  problem.append(element("button", { type: "button", "data-back": true }, say("take_back")));
}

// The four known words that are reached with the fewest changed letters.
function neighbours(word) {
  return [...WORDS].sort((a, b) => edit_distance(word, a) - edit_distance(word, b)).slice(0, 4);
}

// How many letters have to be put in, left out, exchanged, or swapped with their neighbour (Damerau and Levenshtein).
function edit_distance(a, b) {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    rows.push([i]);
    for (let j = 1; j <= b.length; j++) {
      const exchanged = rows[i - 1][j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? rows[i - 2][j - 2] + 1 : Infinity;
      rows[i].push(Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, exchanged, swapped));
    }
  }
  return rows[a.length][b.length];
}

// The letters before the caret back to the last space, and where they start.
function word_at_caret() {
  const before = typed.value.slice(0, typed.selectionStart);
  const start = before.lastIndexOf(" ") + 1;
  return { word: before.slice(start).toLowerCase(), start };
}

function draw_completions() {
  const { word } = word_at_caret();
  const found = word === "" ? [] : WORDS.filter((known) => known.startsWith(word) && known !== word).slice(0, 8);
  chosen_completion = -1;
  completions.replaceChildren(...found.map((known, i) => element("li", { role: "option", id: `completion-${i}` }, known)));
  show_completions(found.length > 0);
}

function show_completions(open) {
  completions.hidden = !open;
  typed.setAttribute("aria-expanded", open);
  typed.removeAttribute("aria-activedescendant");
}

function choose_completion(step) {
  const n = completions.children.length;
  chosen_completion = (chosen_completion + step + n + (chosen_completion < 0 && step < 0 ? 1 : 0)) % n;
  [...completions.children].forEach((option, i) => option.setAttribute("aria-selected", i === chosen_completion));
  typed.setAttribute("aria-activedescendant", `completion-${chosen_completion}`);
}

function complete(word) {
  const { start } = word_at_caret();
  const rest = typed.value.slice(typed.selectionStart).replace(/^\S*\s*/, "");
  typed.value = `${typed.value.slice(0, start)}${word} ${rest}`;
  typed.setSelectionRange(start + word.length + 1, start + word.length + 1);
  read_typed();
}

typed.addEventListener("input", read_typed);
typed.addEventListener("blur", () => {
  show_completions(false);
  read_typed_problem();
});
typed.addEventListener("keydown", (event) => {
  if (completions.hidden) return;
  if (event.key === "Escape") show_completions(false);
  else if (event.key === "ArrowDown") choose_completion(1);
  else if (event.key === "ArrowUp") choose_completion(-1);
  else if (event.key === "Enter" && chosen_completion < 0 && WORDS.includes(word_at_caret().word)) show_completions(false);
  else if (event.key === "Enter") complete(completions.children[Math.max(0, chosen_completion)].textContent);
  else return;
  event.preventDefault();
});
completions.addEventListener("pointerdown", (event) => {
  event.preventDefault(); // the field keeps the focus
  if (event.target.matches("li")) complete(event.target.textContent);
});

// A word that is no longer being typed has to be a known one.
function read_typed_problem() {
  const words = split_words(typed.value);
  draw_problem(words, words.filter((word) => !WORDS.includes(word)));
}

// The field keeps the focus: leaving it draws the buttons anew, and the one that was pressed would be gone before its click.
by_id("problem").addEventListener("mousedown", (event) => event.preventDefault());
by_id("problem").addEventListener("click", (event) => {
  const unknown = event.target.dataset.replace;
  const mended = split_words(typed.value).map((word) => (word === unknown ? event.target.textContent : word));
  if (!event.target.matches("button")) return;
  typed.focus(); // first, for the button is about to go
  type((unknown === undefined ? state.words : mended).join(" "));
});

// Put a text into the field, as if it were typed.
function type(text) {
  typed.value = text;
  read_typed();
  show_completions(false);
  read_typed_problem();
}

by_id("all-words").addEventListener("click", (event) => {
  const word = event.target.dataset.insert;
  if (event.target.id === "empty") type("");
  if (word === undefined) return;
  const [before, after] = [typed.value.slice(0, typed.selectionStart), typed.value.slice(typed.selectionEnd)];
  const start = `${before.trimEnd()} ${word} `.trimStart();
  type(start + after.trimStart());
  typed.setSelectionRange(start.length, start.length); // the next word goes behind this one
});

by_id("preset").addEventListener("change", (event) => {
  if (event.target.value === "") return;
  const [sentence, hidden] = COURSE.presets[event.target.value];
  show_sentence(sentence, hidden);
});

function show_sentence(sentence, hidden) {
  gap_follows = false;
  typed.value = sentence;
  by_id("problem").replaceChildren();
  update({ words: sentence.split(" "), hidden, query: null, key: null });
}

by_id("words").addEventListener("click", (event) => {
  const word = word_at(event.target);
  if (word === null) return;
  gap_follows = false;
  update({ hidden: state.hidden === word ? null : word, query: state.hidden === word ? word : null, key: null });
});
by_id("words").addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  if (!(event.key in steps)) return;
  const to = Number(event.target.dataset.word) + steps[event.key];
  by_id("words").children[Math.max(0, Math.min(state.words.length - 1, to))].focus();
  event.preventDefault();
});
by_id("words").addEventListener("focusin", (event) => {
  focusable_word = Number(event.target.dataset.word);
  point_at(focusable_word);
});
by_id("words").addEventListener("focusout", () => point_at(null));

// --- looking: under the pointer, and chosen ---

function point_at(word, key = null) {
  if (pointed === word && pointed_key === key) return;
  [pointed, pointed_key] = [word, key];
  draw_pointed(answer);
}

const word_at = (target) => (target.dataset.word === undefined ? null : Number(target.dataset.word));
const at_word = (target) => ({ query: word_at(target), key: null });
for (const [box, found_at] of [[by_id("words"), at_word], [by_id("cards"), cell_at]]) {
  box.addEventListener("pointerover", (event) => {
    const { query, key } = found_at(event.target);
    if (event.pointerType === "mouse") point_at(query, key); // a finger does not hover
  });
  box.addEventListener("pointerleave", () => point_at(null));
}

by_id("cards").addEventListener("click", (event) => {
  const { query, key } = cell_at(event.target);
  if (query !== null) update({ head: Number(event.target.closest("svg").dataset.head), query, key });
});
by_id("cards").addEventListener("keydown", (event) => {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const map = event.target.closest("svg");
  if (map === null || !(event.key in steps)) return;
  event.preventDefault();
  const head = Number(map.dataset.head);
  const within = (i) => Math.max(0, Math.min(state.words.length - 1, i));
  const [rows, columns] = steps[event.key];
  state = { ...state, head };
  update({ query: within(chosen_query() + rows), key: within(chosen_key(answer.now) + columns) });
  by_id("spoken").textContent = `${say("head")} ${head}, ${map.nextSibling.textContent}`;
});

for (const name of ["head", "query", "key"]) {
  by_id(`path-${name}`).addEventListener("change", (event) => update({ [name]: Number(event.target.value) }));
}

// --- switches, buttons, tasks ---

by_id("positions").addEventListener("change", (event) => update({ positions: event.target.checked }));
by_id("causal").addEventListener("change", (event) => update({ causal: event.target.checked }));
by_id("factor").addEventListener("input", (event) => update({ factor: FACTORS[event.target.value] }));

by_id("stretched").addEventListener("change", (event) => update({ stretched: event.target.checked }));

by_id("reset").addEventListener("click", () => {
  Object.assign(progress, NOTHING_FOUND);
  start_with(first_state());
  update({});
  by_id("effect").textContent = say("all_reset");
});

by_id("language").addEventListener("click", () => {
  language = language === "en" ? "ko" : "en";
  draw_texts();
  read_typed_problem();
  update({});
});

by_id("copy").addEventListener("click", async () => {
  const link = link_of(state);
  history.replaceState(null, "", link);
  try {
    await navigator.clipboard.writeText(location.href);
    by_id("effect").textContent = say("copied");
  } catch {
    by_id("effect").textContent = say("not_copied");
  }
});

by_id("task-list").addEventListener("click", (event) => {
  const { claim, expect, example } = event.target.closest("button")?.dataset ?? {};
  if (claim !== undefined) {
    progress.claim = claim === "none" ? "none" : Number(claim);
    draw_tasks(answer);
  }
  if (expect !== undefined) {
    progress.expected = { about: gap_name(state), stays: expect === "stays" };
    draw_tasks(answer);
  }
  if (example !== undefined) {
    start_with(example_of(example));
    update({});
    by_id("sentence").scrollIntoView({ block: "nearest" });
  }
});

// Buttons that lead to another part of the page, and take the keyboard's focus there.
document.addEventListener("click", (event) => {
  const to = event.target.closest("[data-to]")?.dataset.to;
  if (to === undefined) return;
  if (to === "all-words") by_id("all-words").open = true;
  by_id(to).scrollIntoView();
  by_id(to).querySelector("summary, input").focus({ preventScroll: true });
});

// What gets the keyboard's focus must not hide behind the line at the foot, whose height goes with its text.
new ResizeObserver(() => {
  document.documentElement.style.scrollPaddingBottom = `${by_id("effect").offsetHeight + 12}px`;
}).observe(by_id("effect"));

// Beside everything where there is room, else right below the sentence and folded. The order for the Tab key follows.
const wide = matchMedia("(min-width: 1150px)"); // as in style.css
function place_tasks() {
  if (wide.matches) document.querySelector("main").after(by_id("tasks"));
  else by_id("sentence").after(by_id("tasks"));
  for (const task of document.querySelectorAll(".task")) task.open = wide.matches;
}
wide.addEventListener("change", place_tasks);

// --- start ---

function open_link() {
  if (location.hash === "#check") {
    by_id("check").textContent = check(MODEL, read_json("cases"));
    return;
  }
  if (location.hash === link_of(state)) return;
  start_with(state_of(location.hash));
}

function start_with(new_state) {
  state = new_state;
  gap_follows = false;
  typed.value = state.words.join(" ");
  by_id("problem").replaceChildren();
  draw_texts();
  answer_and_draw();
}

make_word_groups();
make_heads();
make_tasks();
place_tasks();
for (const box of document.querySelectorAll("input[data-silence]")) {
  const head = Number(box.dataset.silence);
  box.addEventListener("change", () =>
    update({ silenced_heads: head_numbers().filter((h) => (h === head ? box.checked : state.silenced_heads.includes(h))) }),
  );
}
if (location.hash === "#check") open_link(); // before anything is drawn, which a broken model may not survive
start_with(location.hash === "#check" ? first_state() : state_of(location.hash));
addEventListener("hashchange", open_link);
