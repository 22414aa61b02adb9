// The sentences that torch computed when the page was written, computed again here.

// Returns "check: passed ..." or what differs.
function check(model, cases, tolerance = 1e-9) {
  const wrong = [];
  let largest = 0;
  cases.forEach((recorded, number) => {
    const found = model.forward(recorded.tokens, recorded.changes);
    const pairs = {
      scores: [found.scores[recorded.at], recorded.scores], // (vocabulary)
      weights: [found.weights.flatMap((head) => head[recorded.at]), recorded.weights.flat()], // (H * T)
    };
    for (const [name, [ours, theirs]] of Object.entries(pairs)) {
      const difference = Math.max(...theirs.map((x, i) => Math.abs(x - ours[i])));
      largest = Math.max(largest, difference);
      if (ours.length !== theirs.length || !(difference <= tolerance)) { // NaN is wrong, too
        wrong.push(`${name} of sentence ${number} (${JSON.stringify(recorded.changes)}) by ${difference.toExponential(1)}`);
      }
    }
  });
  if (wrong.length === 0 && cases.length > 0) {
    return `check: passed, ${cases.length} sentences, largest difference to torch ${largest.toExponential(1)}`;
  }
  return `check: failed, ${cases.length} sentences, different: ${wrong.join("; ")}`;
}
