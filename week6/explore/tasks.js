// The three tasks: what counts as done is measured, in the page or, for the heads, by torch on unseen sentences.

const NOTHING_FOUND = { claim: null, fooled: null, falls: null, stays: null };
const progress = { ...NOTHING_FOUND };
const NEEDED = 0.2; // a head is needed if without it more than this share of the verbs goes wrong

// --- the language, as far as the tasks need it ---

// 0 for a singular, 1 for a plural, null for a word that is in none of the pairs
const number_of = (word, pairs) => pairs.map((pair) => pair.indexOf(word)).find((number) => number >= 0) ?? null;
const is_noun = (word) => number_of(word, COURSE.beings) !== null;

// The place of the first noun that no "near" leads to: "near the dogs the cat is ..." speaks of the cat. -1 if there is none.
function subject_of(words) {
  const behind_near = (i) => words.slice(Math.max(0, i - 3), i).includes("near"); // near the old dogs
  return words.findIndex((word, i) => is_noun(word) && !behind_near(i));
}

// Whether each "this" and "these" has the number of the noun behind it.
function determiners_agree(words) {
  return words.every((word, i) => {
    const number = COURSE.determiners.indexOf(word);
    const noun = words.slice(i).find(is_noun);
    return number < 0 || noun === undefined || number_of(noun, COURSE.beings) === number;
  });
}

// Whether besides each present verb has the number of the subject.
function is_correct(words) {
  const subject = number_of(words[subject_of(words)], COURSE.beings);
  const verbs = words.map((word) => number_of(word, COURSE.verbs)).filter((number) => number !== null);
  return determiners_agree(words) && verbs.every((number) => number === subject);
}

// The sentence of the same words, but for the hidden one, in which the subject and a noun of the other number have changed
// places, so that another word is right: the cat near the dogs ▢ old, the dogs near the cat ▢ old. Null if there is none.
function mirror_of(state) {
  const words = [...state.words];
  const forms = [...COURSE.verbs, COURSE.determiners].find((pair) => pair.includes(words[state.hidden]));
  const subject = subject_of(words);
  const number = number_of(words[subject], COURSE.beings);
  const other = words.findIndex((word) => is_noun(word) && number_of(word, COURSE.beings) !== number);
  if (forms === undefined || subject < 0 || other < 0) return null;
  [words[subject], words[other]] = [words[other], words[subject]];
  words[state.hidden] = forms.find((form) => form !== words[state.hidden]);
  return is_correct(words) ? { ...state, words } : null;
}

// Whether nothing follows the hidden present verb: so it is while one types, and it is no sentence of the language.
const is_unfinished = (state) => verb_forms(state) !== null && state.hidden === state.words.length - 1;

// {right, wrong}: the form of the hidden verb, and the other; null if no present verb is hidden.
function verb_forms({ words, hidden }) {
  const forms = COURSE.verbs.find((pair) => pair.includes(words[hidden]));
  return forms === undefined ? null : { right: words[hidden], wrong: forms[1 - forms.indexOf(words[hidden])] };
}

// --- what the student has found ---

// Look at a state and what the model said about it, and keep what a task asks for.
function observe(state, answer) {
  const fooled = judge_fooled(state, answer.trained);
  if (fooled.key === "task_2_done") progress.fooled = fooled.values;
  const order = judge_order(state, answer);
  if (order.key === "task_3_falls") progress.falls = order.values;
  if (order.key === "task_3_stays") progress.stays = order.values;
}

// Whether the right word is the most probable one.
const is_best = ({ words, hidden }, { probabilities }) => index_of_largest(probabilities) === IDS.get(words[hidden]);
const gapped = ({ words, hidden }) => words.map((word, i) => (i === hidden ? "▢" : word)).join(" ");
// Whether the model is as trained but for these changes.
const has_changes = (state, changes) => JSON.stringify(changes_of(state)) === JSON.stringify({ ...AS_TRAINED, ...changes });

// Task 2: the sentence that says how it stands.
function judge_fooled(state, trained) {
  const forms = state.hidden === null ? null : verb_forms(state);
  if (forms === null) return { key: "task_2_not_verb" };
  if (!has_changes(state, {})) return { key: "task_2_switches" };
  if (is_unfinished(state)) return { key: "unfinished" };
  const subject = state.words[subject_of(state.words)];
  if (subject === undefined) return { key: "task_2_no_subject" };
  if (!is_correct(state.words)) return { key: "task_2_wrong_sentence", values: { subject } };
  const [p_right, p_wrong] = [forms.right, forms.wrong].map((form) => trained.probabilities[IDS.get(form)]);
  const values = { ...forms, p_right: fixed(p_right), p_wrong: fixed(p_wrong), sentence: gapped(state) };
  return { key: p_wrong > p_right ? "task_2_done" : "task_2_holds", values };
}

// Task 3: likewise. A word that is still first by luck does not count: without positions its mirror looks the same.
function judge_order(state, { now, trained }) {
  if (!has_changes(state, { positions: false })) return { key: "task_3_switches" };
  if (state.hidden === null) return { key: "task_3_no_gap" };
  if (is_unfinished(state)) return { key: "unfinished" };
  const word = state.words[state.hidden];
  const [before, after] = [trained, now].map(({ probabilities }) => fixed(probabilities[IDS.get(word)]));
  const values = { word, sentence: gapped(state), before, after };
  if (!is_best(state, trained)) return { key: "task_3_not_first", values };
  if (!is_best(state, now)) return { key: "task_3_falls", values };
  const mirror = mirror_of(state);
  if (mirror === null || is_best(mirror, ask(mirror).now)) return { key: "task_3_stays", values };
  return { key: "task_3_luck", values: { ...values, mirror: gapped(mirror), other: mirror.words[mirror.hidden] } };
}

// Task 1: both tests of a head, by wrong verbs, which one can see on this page (Lab 2 takes log-odds). A single head has
// none to be compared with.
function judge_head(head) {
  const { attention, drop, even } = COURSE.heads;
  const looks = index_of_largest(attention) === head && attention[head] >= 2 * even;
  const needed = index_of_largest(drop) === head && drop[head] > NEEDED;
  return { looks, needed, named: looks && needed && COURSE.n_heads > 1 };
}

function judge_claim(claim) {
  const named = head_numbers().find((head) => judge_head(head).named);
  if (claim === "none") {
    const right = named === undefined;
    return { keys: [right ? "task_1_none_right" : "task_1_none_wrong"], right };
  }
  if (COURSE.n_heads === 1) return { keys: ["task_1_single"], right: false };
  const { looks, needed } = judge_head(claim);
  const right = looks && needed;
  const tests = [looks ? "task_1_looks" : "task_1_looks_not", needed ? "task_1_hurts" : "task_1_hurts_not"];
  return { keys: [...tests, right ? "task_1_right" : "task_1_wrong"], right };
}

// --- examples ---

// Which of them shows the point depends on the model, so it is tried. For the third task one of each pair has to: without
// positions both sentences are the same words, and the right verbs are not.
const EXAMPLES = {
  1: {
    sentences: ["the mice which the dog chased eat the cheese", "the bird which the girls saw drinks the milk"],
    hidden: 6,
    changes: AS_TRAINED,
    works: (state, { trained }) => is_best(state, trained) && head_numbers().some((head) => is_turned_by(head, state)),
  },
  2: {
    sentences: ["near the dogs the cat is very old", "near the cat the dogs are very old", "near the boys the bird is small"],
    hidden: 5,
    changes: AS_TRAINED,
    works: (state, { trained }) => judge_fooled(state, trained).key === "task_2_done",
  },
  3: {
    sentences: ["the dogs near the cat are very cute", "the cat near the dogs is very cute"],
    hidden: 5,
    changes: { ...AS_TRAINED, positions: false },
    works: (state, answer) => judge_order(state, answer).key === "task_3_falls",
  },
};

// Whether without this head the wrong form of the hidden verb overtakes the right one.
function is_turned_by(head, state) {
  const { right, wrong } = verb_forms(state);
  const { probabilities } = ask({ ...state, silenced_heads: [head] }).now;
  return probabilities[IDS.get(wrong)] > probabilities[IDS.get(right)];
}

// The state that shows the point of a task; its verb is hidden.
function example_of(number) {
  const { sentences, hidden, changes, works } = EXAMPLES[number];
  const states = sentences.map((sentence) => ({ ...first_state(), words: sentence.split(" "), hidden, ...changes }));
  return states.find((state) => works(state, ask(state))) ?? states[0];
}

// --- drawing ---

let first_example = null; // of task 1; kept, for finding it takes many questions to the model

// The parts that stay, so that an opened hint stays open.
function make_tasks() {
  first_example = example_of(1);
  const button = (text, data) => element("button", { type: "button", "data-text": text, ...data });
  for (const number of [1, 2, 3]) {
    const name = element("span", { "data-text": `task_${number}_title` });
    const title = element("summary", {}, element("h3", {}, name, element("span", { class: "done" })));
    const text = element("p", number === 2 ? { id: "task-2" } : { "data-text": `task_${number}` });
    const answer = element("div", { class: "answer", role: "status" });
    const example = number === 1 ? "" : button("show_me", { "data-example": number });
    const hint = element("p", number === 1 ? { id: "hint-1" } : { "data-text": `task_${number}_hint` });
    const hints = element("details", {}, element("summary", { "data-text": "hint" }), hint, example);
    const up = button("up", { class: "up", "data-to": "sentence" });
    by_id("task-list").append(
      element("details", { class: "task", "data-task": number }, title, text, ...tools(number, button), answer, hints, up),
    );
  }
}

// What a task has to work with, between its text and its answer.
function tools(number, button) {
  if (number === 2) return [button("all_words", { "data-to": "all-words" })];
  if (number === 3) return [];
  const sentence = element("button", { type: "button", "data-example": 1, lang: "en" }, gapped(first_example));
  const claims = element("div", { class: "claims", role: "group", "aria-labelledby": "claim" });
  claims.append(element("p", { id: "claim", "data-text": "task_1_ask" }));
  for (const head of head_numbers()) {
    const name = element("span", { "data-text": "head" });
    claims.append(element("button", { type: "button", "data-claim": head }, name, ` ${head}`));
  }
  claims.append(button("none", { "data-claim": "none" }));
  return [element("p", {}, element("span", { "data-text": "task_1_try" }), " ", sentence), claims];
}

function draw_tasks({ now, trained }) {
  const done = { 1: false, 2: progress.fooled !== null, 3: progress.falls !== null && progress.stays !== null };
  by_id("hint-1").textContent = say("task_1_hint", verb_forms(first_example));
  by_id("task-2").textContent = say("task_2", { percent: (100 * COURSE.heads.accuracy).toFixed(1) });

  const claim = progress.claim === null ? null : judge_claim(progress.claim);
  draw_task(1, claim === null ? [] : claim_parts(claim), claim?.right ?? false);
  for (const button of document.querySelectorAll("[data-claim]")) {
    button.setAttribute("aria-pressed", button.dataset.claim === String(progress.claim));
  }
  const fooled = done[2] ? { key: "task_2_done", values: progress.fooled } : judge_fooled(state, trained);
  draw_task(2, [say(fooled.key, fooled.values)], done[2]);

  const line = (name) => {
    const found = progress[name];
    return `${found ? "✓" : "○"} ${say(`task_3_name_${name}`)}: ${found ? say(`task_3_${name}`, found) : say("open")}`;
  };
  const order = judge_order(state, { now, trained });
  const counts = order.key === "task_3_falls" || order.key === "task_3_stays"; // then it stands in its line
  draw_task(3, [line("falls"), line("stays"), ...(done[3] || counts ? [] : [say(order.key, order.values)])], done[3]);
}

// parts: paragraphs, as text, or elements
function draw_task(number, parts, done) {
  const task = document.querySelector(`[data-task="${number}"]`);
  task.classList.toggle("is-done", done);
  task.querySelector(".done").textContent = done ? ` ✓ ${say("done")}` : "";
  const answer = task.querySelector(".answer");
  const nodes = parts.map((part) => (typeof part === "string" ? element("p", {}, part) : part));
  const same = nodes.map((node) => node.textContent).join("") === answer.textContent;
  if (!same) answer.replaceChildren(...nodes); // what is unchanged is not read aloud again
}

// What holds and what fails for the head that was chosen. The others are shown when the answer is right, not before.
function claim_parts({ keys, right }) {
  const { attention, drop, even, n } = COURSE.heads;
  const of_100 = (share) => String(Math.round(100 * share));
  const head = progress.claim;
  const own = head === "none" ? {} : { weight: fixed(attention[head]), lost: of_100(drop[head]) };
  const values = { head, n, even: fixed(even), twice: fixed(2 * even), needed: of_100(NEEDED), ...own };
  const lines = keys.map((key) => say(key, values));
  const how = say("task_1_measured", values);
  if (!right) return [...lines, how];
  const rows = head_numbers().map((h) => [`${say("head")} ${h}`, fixed(attention[h]), of_100(drop[h])]);
  const measured = table([say("head"), say("task_1_attention"), say("task_1_drop")], rows, head);
  return [...lines, measured, how];
}
