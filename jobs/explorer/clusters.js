"use strict";
/** Concepts of one layer, from the concept of every occurrence: their words, languages, sentences and partners. */
const Clusters = (() => {
  let study = null;
  const begin = (given) => { study = given; };

  /** Languages whose words a selection holds. */
  const languagesOf = (selection) => study.selections[selection];

  const layersOf = (checkpoint, stack) => study.layers[checkpoint][stack];

  /** A selection in the names of packs: that of a set of many languages is longer than names of files may be. */
  const numberOf = (selection) => String(Object.keys(study.selections).indexOf(selection));

  /** Selection with the concepts of a language in its pair with another (jobs.selections.concepts_name). */
  const selectionOf = (language, other) => study.concepts_of[`${language}→${other}`];

  /** Stacks of the source and of the target of a comparison. */
  const sides = (stack) => {
    const [one, other] = stack.split("-");
    return [one, other ?? one];
  };

  const turned = (stack) => stack.split("-").reverse().join("-");

  /**
   * Concepts of a selection at a layer: {concept, tokens, types, words: [[word, count]], mix: [tokens by language]},
   * most frequent words first, and for each occurrence its `concept`, k for none.
   */
  async function concepts(checkpoint, stack, selection, layer) {
    const [text, found] = await Promise.all([
      Data.load("words", numberOf(selection)), Data.load("concepts", checkpoint, stack, numberOf(selection), String(layer)),
    ]);
    if (!found.concepts) found.concepts = counted(text, found, selection);
    return { text, ...found };
  }

  function counted(text, found, selection) {
    const languages = languagesOf(selection).length;
    const words = Array.from({ length: found.k }, () => new Map());
    found.concept.forEach((concept, token) => {
      if (concept === found.k) return; // it has no vector
      const word = text.word[token];
      words[concept].set(word, (words[concept].get(word) ?? 0) + 1);
    });
    return words.map((counts, concept) => {
      const order = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
      const mix = new Array(languages).fill(0);
      for (const [word, count] of order) mix[text.form_language[word]] += count;
      return {
        concept, words: order, mix, types: order.length, tokens: mix.reduce((a, b) => a + b, 0),
        label: found.labels[concept] ?? "", purity: purity(found, concept, mix), tag: tag(found, concept),
      };
    });
  }

  /** What most of a concept's tokens share: [share, property, value]. */
  function tag(found, concept) {
    let best = null;
    found.properties.forEach((property, i) => {
      const share = found.share[concept * found.properties.length + i];
      if (share > (best?.[0] ?? 0)) best = [share, property, found.shared[concept][i]];
    });
    return best;
  }

  /** Share of the tokens that have in common what most of them have; without properties, their language. */
  function purity(found, concept, mix) {
    const tokens = mix.reduce((a, b) => a + b, 0);
    if (!tokens) return NaN;
    return found.properties.length ? tag(found, concept)?.[0] ?? 0 : Math.max(...mix) / tokens;
  }

  /** Sentences with a word of a concept, of as many words as there are: [{language, words, at}]. */
  async function examples(held, concept, selection, most = 5) {
    const languages = languagesOf(selection);
    const seen = new Set();
    const chosen = [];
    const rank = new Map(held.concepts[concept].words.map(([word], i) => [word, i]));
    const tokens = [];
    held.concept.forEach((of, token) => { if (of === concept) tokens.push(token); });
    tokens.sort((a, b) => rank.get(held.text.word[a]) - rank.get(held.text.word[b]) || a - b);
    for (const token of tokens) {
      const word = held.text.word[token];
      if (seen.has(word) || held.text.sentence[token] >= study.sentences_kept) continue;
      seen.add(word);
      chosen.push(token);
      if (chosen.length === most) break;
    }
    return Promise.all(chosen.map(async (token) => {
      const language = languages[held.text.form_language[held.text.word[token]]];
      const number = held.text.sentence[token];
      const chunk = Math.floor(number / study.sentences_of_chunk);
      const { sentences } = await Data.load("text", language, String(chunk));
      const words = sentences[number % study.sentences_of_chunk];
      return { language, number, words, at: held.text.position[token] };
    }));
  }

  /** Counts of the languages in each concept of mixed text. */
  const mixed = (checkpoint, stack, selection) => Data.load("colap", checkpoint, stack, numberOf(selection));

  /** Counts between the concepts of two languages, of both directions: [towards, back]. */
  const between = (checkpoint, stack, source, target) => Promise.all([
    Data.load("calign", checkpoint, stack, `${source}-${target}`),
    Data.load("calign", checkpoint, turned(stack), `${target}-${source}`),
  ]);

  /** Stored partners of a concept of the source, the most translated first, with what each rule says. */
  function partners(counts, layer, concept, rules) {
    const at = counts.layers.indexOf(layer);
    const found = [];
    for (let i = counts.start[at]; i < counts.start[at + 1]; i++) {
      if (counts.source[i] === concept) found.push(Scores.judge(counts, at, i, rules));
    }
    const whole = (one) => Number(one.translated && one.close && one.large);
    return found.sort((a, b) => whole(b) - whole(a) || b.part - a.part || a.target - b.target);
  }

  /** Pairs of words of two concepts that translate each other (engine.aligned.matched_words). */
  async function matched(source, target, sourceWords, targetWords, rules) {
    const dictionary = await Data.load("dictionary", `${source}-${target}`);
    const ours = new Set(sourceWords.map(([word]) => dictionary.of_source[word]));
    const theirs = new Set(targetWords.map(([word]) => dictionary.of_target[word]));
    if (!dictionary.entries) {
      dictionary.entries = new Map();
      dictionary.source.forEach((form, i) => {
        if (!dictionary.entries.has(form)) dictionary.entries.set(form, []);
        dictionary.entries.get(form).push(i);
      });
    }
    const found = [];
    for (const form of [...ours].sort((a, b) => a - b)) {
      for (const i of dictionary.entries.get(form) ?? []) {
        if (dictionary.rank[i] < rules.n_best && theirs.has(dictionary.target[i])) {
          found.push([dictionary.source_form[form], dictionary.target_form[dictionary.target[i]]]);
        }
      }
    }
    return found;
  }

  return {
    begin, languagesOf, layersOf, selectionOf, sides, concepts, examples, mixed, between, partners, matched,
  };
})();
