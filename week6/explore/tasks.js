// The three tasks: what counts as done is measured, in the page or, for the heads, by torch on unseen sentences.

const progress = { claim: null, fooled: null, falls: null, stays: null };
const NEEDED = 0.2; // as in Lab 2: a head is needed if silencing it costs more than this

// --- the language, as far as the tasks need it ---

// 0 for a singular, 1 for a plural, null for a word that is in none of the pairs
const number_of = (word, pairs) => pairs.map((pair) => pair.indexOf(word)).find((number) => number >= 0) ?? null;
const is_noun = (word) => number_of(word, COURSE.beings) !== null;

// The first noun that no "near" leads to: "near the dogs the cat is ..." speaks of the cat. Null if there is none.
function subject_of(words) {
  const behind_near = (i) => words.slice(Math.max(0, i - 3), i).includes("near"); // near the old dogs
  return words.find((word, i) => is_noun(word) && !behind_near(i)) ?? null;
}

// Whether each "this" and "these" has the number of the noun behind it.
function determiners_agree(words) {
  return words.every((word, i) => {
    const number = COURSE.determiners.indexOf(word);
    const noun = words.slice(i).find(is_noun);
    return number < 0 || noun === undefined || number_of(noun, COURSE.beings) === number;
  });
}

// {right, wrong}: the form of the hidden verb, and the other; null if no present verb is hidden.
function verb_forms({ words, hidden }) {
  const forms = COURSE.verbs.find((pair) => pair.includes(words[hidden]));
  return forms === undefined ? null : { right: words[hidden], wrong: forms[1 - forms.indexOf(words[hidden])] };
}

// --- what the student has found ---

// Look at a state and what the model said about it, and keep what a task asks for.
function observe(state, { now, trained }) {
  if (state.hidden === null) return;
  if (has_changes(state, { positions: false }) && is_best(state, trained)) {
    const word = state.words[state.hidden];
    const [before, after] = [trained, now].map(({ probabilities }) => fixed(probabilities[IDS.get(word)]));
    progress[is_best(state, now) ? "stays" : "falls"] = { word, sentence: gapped(state), before, after };
  }
  const fooled = judge_fooled(state, trained);
  if (fooled.key === "task_2_done") progress.fooled = fooled.values;
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
  const subject = subject_of(state.words);
  if (subject === null) return { key: "task_2_no_subject" };
  const agrees = number_of(subject, COURSE.beings) === number_of(forms.right, COURSE.verbs);
  if (!agrees || !determiners_agree(state.words)) return { key: "task_2_wrong_sentence", values: { subject } };
  const [p_right, p_wrong] = [forms.right, forms.wrong].map((form) => trained.probabilities[IDS.get(form)]);
  const values = { ...forms, p_right: fixed(p_right), p_wrong: fixed(p_wrong), sentence: gapped(state) };
  return { key: p_wrong > p_right ? "task_2_done" : "task_2_holds", values };
}

// Task 1: both tests of a head, by the rule of Lab 2. A single head has none to be compared with.
function judge_head(head) {
  const { attention, drop, even } = COURSE.heads;
  const looks = index_of_largest(attention) === head && attention[head] >= 2 * even;
  const needed = index_of_largest(drop) === head && drop[head] > NEEDED;
  return { looks, needed, named: looks && needed && COURSE.n_heads > 1 };
}

function judge_claim(claim) {
  const named = head_numbers().find((head) => judge_head(head).named);
  if (claim === "none") {
    return named === undefined ? { key: "task_1_none_right", right: true } : { key: "task_1_none_wrong", head: named };
  }
  const { looks, needed } = judge_head(claim);
  if (COURSE.n_heads === 1) return { key: "task_1_single" };
  if (looks && needed) return { key: "task_1_both", head: claim, right: true };
  return { key: looks ? "task_1_looks" : needed ? "task_1_needed" : "task_1_neither", head: claim };
}

// --- examples ---

// Which of them shows the point depends on the model, so it is tried. For the third task one of each pair has to: without
// positions both sentences are the same words, and the right verbs are not.
const EXAMPLES = {
  2: {
    sentences: ["near the dogs the cat is very old", "near the cat the dogs are very old", "near the boys the bird is small"],
    changes: AS_TRAINED,
    works: (state, { trained }) => judge_fooled(state, trained).key === "task_2_done",
  },
  3: {
    sentences: ["the dogs near the cat are very cute", "the cat near the dogs is very cute"],
    changes: { ...AS_TRAINED, positions: false },
    works: (state, { now, trained }) => is_best(state, trained) && !is_best(state, now),
  },
};

// The state that shows the point of a task; the verb, the sixth word, is hidden.
function example_of(number) {
  const { sentences, changes, works } = EXAMPLES[number];
  const states = sentences.map((sentence) => ({ ...first_state(), words: sentence.split(" "), hidden: 5, ...changes }));
  return states.find((state) => works(state, ask(state))) ?? states[0];
}

// --- drawing ---

// The parts that stay, so that an opened hint stays open.
function make_tasks() {
  for (const number of [1, 2, 3]) {
    const hint = element(
      "details",
      {},
      element("summary", { "data-text": "hint" }),
      element("p", { "data-text": `task_${number}_hint` }),
      number === 1 ? "" : element("button", { type: "button", "data-example": number, "data-text": "show_me" }),
    );
    const name = element("span", { "data-text": `task_${number}_title` });
    const title = element("h3", {}, name, element("span", { class: "done" }));
    const text = element("p", number === 2 ? { id: "task-2" } : { "data-text": `task_${number}` });
    const answer = element("div", { class: "answer", role: "status" });
    by_id("task-list").append(element("section", { class: "task", "data-task": number }, title, text, answer, hint));
  }
  const claims = element("div", { class: "claims", role: "group", "aria-labelledby": "claim" });
  claims.append(element("p", { id: "claim", "data-text": "task_1_ask" }));
  for (const head of head_numbers()) {
    const name = element("span", { "data-text": "head" });
    claims.append(element("button", { type: "button", "data-claim": head }, name, ` ${head}`));
  }
  claims.append(element("button", { type: "button", "data-claim": "none", "data-text": "none" }));
  by_id("task-list").querySelector(".answer").before(claims);
}

function draw_tasks({ trained }) {
  by_id("task-2").textContent = say("task_2", { percent: (100 * COURSE.heads.accuracy).toFixed(1) });
  const claim = progress.claim === null ? null : judge_claim(progress.claim);
  draw_task(1, claim === null ? [] : claim_parts(claim), claim?.right ?? false);
  for (const button of document.querySelectorAll("[data-claim]")) {
    button.setAttribute("aria-pressed", button.dataset.claim === String(progress.claim));
  }
  const fooled = progress.fooled === null ? judge_fooled(state, trained) : { key: "task_2_done", values: progress.fooled };
  draw_task(2, [say(fooled.key, fooled.values)], progress.fooled !== null);
  const line = (name) => {
    const found = progress[name];
    return `${found ? "✓" : "○"} ${say(`task_3_${name}`)}: ${found ? say("went", found) : say("open")}`;
  };
  draw_task(3, [line("falls"), line("stays")], progress.falls !== null && progress.stays !== null);
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

function claim_parts({ key, head }) {
  const { attention, drop, even, n } = COURSE.heads;
  const most = index_of_largest(drop);
  const values = { head, n, even: fixed(even), most, most_drop: fixed(drop[most]), drop: fixed(drop[head] ?? 0) };
  const rows = head_numbers().map((h) => [`${say("head")} ${h}`, fixed(attention[h]), fixed(drop[h])]);
  const measured = table([say("head"), say("task_1_attention"), say("task_1_drop")], rows, head);
  return [say(key, values), say("task_1_measured", values), measured, say("task_1_rule", values)];
}
