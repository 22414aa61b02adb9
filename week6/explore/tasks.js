// The three tasks: what counts as done is measured, in the page or, for the heads, by torch on unseen sentences.

const NOTHING_FOUND = { claim: null, fooled: null, expected: null, falls: null, stays: null };
const progress = { ...NOTHING_FOUND };
const NEEDED = 0.2; // a head is needed if without it this share of the verbs more than before gets the wrong number
const EXPECTS = 0.1; // with this probability the model expects a word, even if it is not its first guess

// --- the language, as far as the tasks need it ---

// 0 for a singular, 1 for a plural, null for a word that is in none of the pairs
const number_of = (word, pairs) => pairs.map((pair) => pair.indexOf(word)).find((number) => number >= 0) ?? null;
const is_noun = (word) => number_of(word, COURSE.beings) !== null;

// The place of the first noun that no "near" leads to: "near the dogs the cat is ..." speaks of the cat. -1 if there is none.
function subject_of(words) {
  const behind_near = (i) => words.slice(Math.max(0, i - 3), i).includes("near"); // near the old dogs
  return words.findIndex((word, i) => is_noun(word) && !behind_near(i));
}

const is_present_verb = (word) => number_of(word, COURSE.verbs) !== null;
const NEVER_LAST = ["the", ...COURSE.determiners, "in", "on", "near", "which", "very"];

// The noun that belongs to a "this" or "these" at i, with adjectives at most in between; undefined if there is none.
function noun_behind(words, i) {
  const word = words.slice(i + 1).find((word) => word !== "very" && !COURSE.word_groups.adjectives.includes(word));
  return is_noun(word) ? word : undefined;
}

// The words, but each present verb with the number of the subject, and each "this" and "these" with that of its noun.
function agreed(words) {
  const subject = words[subject_of(words)];
  return words.map((word, i) => {
    const forms = [...COURSE.verbs, COURSE.determiners].find((pair) => pair.includes(word));
    const noun = forms === COURSE.determiners ? noun_behind(words, i) : subject;
    return forms === undefined || noun === undefined ? word : forms[number_of(noun, COURSE.beings)];
  });
}

// Why this page cannot judge a sentence, {key, values} of a text; null if it can. The sentence may well be English.
function objection(words) {
  const last = words.at(-1);
  if (is_present_verb(last)) return { key: "verb_at_end" };
  if (NEVER_LAST.includes(last)) return { key: "not_at_end", values: { word: last } };
  const subject = words[subject_of(words)];
  if (subject === undefined && words.some(is_present_verb)) return { key: "no_subject" };
  const at = agreed(words).findIndex((word, i) => word !== words[i]);
  if (at < 0) return null;
  if (is_present_verb(words[at])) return { key: "verb_disagrees", values: { verb: words[at], subject } };
  return { key: "determiner_disagrees", values: { word: words[at], noun: noun_behind(words, at) } };
}

// The sentence in which the subject and another noun have changed places, and verbs and this/these with them, so that
// another word is right: the cat near the dogs ▢ old, the dogs near the cat ▢ old. Null if the same word stays right.
function mirror_of(state) {
  const { words, hidden } = state;
  const subject = subject_of(words);
  const swapped = (other) => agreed(words.map((word, i) => words[i === subject ? other : i === other ? subject : i]));
  const mirrors = nouns_beside(words, subject).map(swapped);
  const mirror = mirrors.find((mirror) => mirror[hidden] !== words[hidden]);
  return mirror === undefined ? null : { ...state, words: mirror };
}

// The places of all nouns but the subject.
function nouns_beside(words, subject) {
  return subject < 0 ? [] : words.map((_, i) => i).filter((i) => i !== subject && is_noun(words[i]));
}

// {right, wrong}: the form of the hidden verb, and the other; null if no present verb is hidden.
function verb_forms({ words, hidden }) {
  const forms = COURSE.verbs.find((pair) => pair.includes(words[hidden]));
  return forms === undefined ? null : { right: words[hidden], wrong: forms[1 - forms.indexOf(words[hidden])] };
}

// --- what the student has found ---

// Look at a state and what the model said about it, and keep what a task asks for.
function observe(state, answer) {
  const fooled = judge_fooled(state, answer.trained);
  if (fooled.key === "task_2_done") progress.fooled = fooled;
  const order = judge_order(state, answer);
  if (order.found) progress[order.found] = { ...order, expected: progress.expected.stays === (order.found === "stays") };
}

// Whether the right word is the most probable one.
const is_best = ({ words, hidden }, { probabilities }) => index_of_largest(probabilities) === IDS.get(words[hidden]);
const p_right = ({ words, hidden }, { probabilities }) => probabilities[IDS.get(words[hidden])];
// Whether the right word is no longer first, and by more than a coin flip.
const has_fallen = (state, trained, now) => !is_best(state, now) && p_right(state, now) < p_right(state, trained) / 2;
const gapped = ({ words, hidden }) => words.map((word, i) => (i === hidden ? "▢" : word)).join(" ");
const gap_name = (state) => `${gapped(state)}: ${state.words[state.hidden]}`;
// Whether the model is as trained but for these changes.
const has_changes = (state, changes) => JSON.stringify(changes_of(state)) === JSON.stringify({ ...AS_TRAINED, ...changes });

// Task 2: how it stands, {key, values} of a text. A form that the model does not expect anyway has fooled nobody.
function judge_fooled(state, trained) {
  const forms = state.hidden === null ? null : verb_forms(state);
  if (forms === null) return { key: "task_2_not_verb" };
  if (!has_changes(state, {})) return { key: "task_2_switches" };
  const problem = objection(state.words);
  if (problem !== null) return problem;
  const [right, wrong] = [forms.right, forms.wrong].map((form) => trained.probabilities[IDS.get(form)]);
  const first = first_guess(trained);
  const expects_one = Math.max(right, wrong) >= EXPECTS || [forms.right, forms.wrong].includes(first.word);
  if (!expects_one) return { key: "task_2_neither", values: first };
  const values = { ...forms, p_right: fixed(right), p_wrong: fixed(wrong), sentence: gapped(state) };
  return { key: wrong > right ? "task_2_done" : "task_2_holds", values };
}

// Task 3: likewise; "found" is "falls" or "stays" if the gap counts. It has to be predicted first, while its answer cannot
// be seen. A word that is still first by luck does not count: its mirror has to be right, too.
function judge_order(state, { now, trained }) {
  if (state.hidden === null) return { key: "task_3_no_gap" };
  if (!has_changes(state, { positions: state.positions })) return { key: "task_3_switches" };
  const problem = objection(state.words);
  if (problem !== null) return problem;
  const word = state.words[state.hidden];
  const [before, after] = [trained, now].map((answer) => fixed(p_right(state, answer)));
  const values = { word, sentence: gapped(state), before, after };
  if (!is_best(state, trained)) return { key: "task_3_not_first", values };
  const is_predicted = progress.expected?.about === gap_name(state);
  if (state.positions) return { key: is_predicted ? "task_3_switch_off" : "task_3_predict", values };
  if (!is_predicted) return { key: "task_3_too_late", values };
  if (has_fallen(state, trained, now)) return { key: "task_3_falls", values, found: "falls" };
  if (!is_best(state, now)) return { key: "task_3_close", values };
  const mirror = mirror_of(state);
  if (mirror === null) {
    const alone = nouns_beside(state.words, subject_of(state.words)).length === 0;
    return { key: alone ? "task_3_stays_alone" : "task_3_stays_same", values, found: "stays" };
  }
  const there = ask(mirror).now;
  const both = { ...values, mirror: gapped(mirror), other: mirror.words[mirror.hidden], guess: first_guess(there).word };
  return is_best(mirror, there) ? { key: "task_3_stays", values: both, found: "stays" } : { key: "task_3_luck", values: both };
}

// Task 1: both tests of a head, by wrong verbs, which one can see on this page (Lab 2 takes log-odds). A single head has
// none to be compared with.
function judge_head(head) {
  const { attention, wrong, accuracy, even } = COURSE.heads;
  const looks = index_of_largest(attention) === head && attention[head] >= 2 * even;
  const needed = index_of_largest(wrong) === head && wrong[head] - (1 - accuracy) > NEEDED;
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
  return { keys: [...tests, ...(right ? ["task_1_by_number", "task_1_right"] : ["task_1_wrong"])], right };
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
    changes: AS_TRAINED,
    works: (state, { trained }) =>
      is_best(state, trained) && has_fallen(state, trained, ask({ ...state, positions: false }).now),
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
  if (number === 3) {
    const expectation = (stays) => button(`task_3_expect_${stays}`, { "data-expect": stays });
    const question = element("p", { id: "expectation", "data-text": "task_3_ask" });
    const group = { class: "claims", role: "group", "aria-labelledby": "expectation" };
    return [element("div", group, question, expectation("stays"), expectation("falls"))];
  }
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
  const told = ({ key, values }) => say(key, values);
  const fooled = judge_fooled(state, trained); // a success stands in "progress" already
  const best = done[2] ? [`✓ ${told(progress.fooled)}`] : [];
  draw_task(2, fooled.key === "task_2_done" ? best : [...best, told(fooled)], done[2]);

  const line = (name) => {
    const found = progress[name];
    const title = say(`task_3_name_${name}`);
    if (found === null) return `○ ${title}: ${say("open")}`;
    return `✓ ${title}: ${told(found)} ${say(found.expected ? "expected" : "not_expected")}`;
  };
  const order = judge_order(state, { now, trained });
  draw_task(3, [line("falls"), line("stays"), ...(order.found ? [] : [told(order)])], done[3]); // found: in its line
  for (const button of document.querySelectorAll("[data-expect]")) {
    button.disabled = !["task_3_predict", "task_3_switch_off"].includes(order.key);
    const { about, stays } = progress.expected ?? {};
    const pressed = about === gap_name(state) && stays === (button.dataset.expect === "stays");
    button.setAttribute("aria-pressed", pressed);
  }
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
  const { attention, wrong, by_number, accuracy, even, n } = COURSE.heads;
  const of_100 = (share) => String(Math.round(100 * share));
  const head = progress.claim;
  const [singular, plural] = by_number.map((heads) => of_100(heads[head]));
  const own = head === "none" ? {} : { weight: fixed(attention[head]), wrong: of_100(wrong[head]), singular, plural };
  const values = { head, n, twice: fixed(2 * even), needed: of_100(NEEDED), whole: of_100(1 - accuracy), ...own };
  const lines = keys.map((key) => say(key, values));
  const how = say("task_1_measured", values);
  if (!right) return [...lines, how];
  const rows = head_numbers().map((h) => [`${say("head")} ${h}`, fixed(attention[h]), of_100(wrong[h])]);
  const measured = table([say("head"), say("task_1_attention"), say("task_1_without")], rows, head);
  return [...lines, measured, how];
}
