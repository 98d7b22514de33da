"use strict";
// The images of a page and their captions as columns: which of them a choice leaves, in which order. It knows nothing of the page.

/** Text as a search sees it: lower case, every run of other signs one space, a space in front, so that " do" finds "dog" and not "undo". */
const searchable = (text) => (/^[a-z0-9]+( [a-z0-9]+)*$/.test(text) ? ` ${text}`  // most captions: the other way takes ten times as long
  : ` ${text.toLowerCase().replace(/[^\p{L}\p{M}\p{N}<>]+/gu, " ").trim()}`);

class Images {
  /** data: what reports/browse.py's collect() gives. */
  constructor(data) {
    this.data = data;
    this.count = data.ids.length;
    this.places = new Map(data.ids.map((id, image) => [id, image]));
    this.kinds = data.errors.map((system) => Uint16Array.from(system, (found) => this.#kindsOf(found)));  // a bit per class
    // Per metric, per system, a number per image.
    this.values = {};
    data.metrics.forEach((metric, m) => {
      this.values[metric] = data.scores[m].map((system) => Float32Array.from(system, (tenths) => tenths / 10));
    });
    this.values.errors = data.errors.map((system) => Uint8Array.from(system, (found) => (found ? found.length / 3 : 0)));
    this.words = new Array(data.texts.length);  // per caption, once asked for
    this.numbers = new Map();  // of words
    this.sum = [];  // per word, while a disagreement is computed
    const lengths = data.texts.map((text) => text.split(" ").filter(Boolean).length);
    this.values.words = data.captions.map((system) => Uint16Array.from(system, (text) => lengths[text]));
  }

  #kindsOf(found) {
    let bits = 0;
    for (let k = 0; found && k < found.length; k += 3) bits |= 1 << found[k];
    return bits;
  }

  /** The errors of one caption: [{kind, word, instead}]. */
  errorsOf(system, image) {
    const found = this.data.errors[system][image] || [];
    const errors = [];
    for (let k = 0; k < found.length; k += 3) {
      errors.push({kind: this.data.kinds[found[k]], word: this.data.strings[found[k + 1]], instead: this.data.strings[found[k + 2]]});
    }
    return errors;
  }

  textOf(system, image) {
    return this.data.texts[this.data.captions[system][image]];
  }

  /** Lowest and highest value of a metric. */
  rangeOf(metric) {
    let low = Infinity, high = -Infinity;
    for (const system of this.values[metric]) for (const value of system) { low = Math.min(low, value); high = Math.max(high, value); }
    return [low, high];
  }

  /** An image's mean over systems. */
  meanOf(metric, systems, image) {
    let sum = 0;
    for (const system of systems) sum += this.values[metric][system][image];
    return systems.length ? sum / systems.length : 0;
  }

  /** What text search needs; made once, when first asked for or when the browser is idle. */
  prepare() {
    this.texts ??= this.data.texts.map(searchable);
    this.references ??= this.data.references.map((captions) => captions.map(searchable));
  }

  /** The different words of a caption, as numbers. */
  #wordsOf(text) {
    return this.words[text] ??= Int32Array.from(new Set(searchable(this.data.texts[text]).slice(1).split(" ")), (word) => {
      if (!this.numbers.has(word)) this.numbers.set(word, this.numbers.size);
      return this.numbers.get(word);
    });
  }

  /**
   * 1 minus the mean over pairs of systems of the cosine between their captions' sets of words: 0 where all say the same words, 1 where no two share one.
   * The sum over pairs of unit vectors' products is (|sum of vectors|^2 - K) / 2, so K systems cost K steps and not K^2.
   */
  disagreementOf(systems, image) {
    const K = systems.length, sum = this.sum;
    if (K < 2) return 0;
    const captions = systems.map((system) => this.#wordsOf(this.data.captions[system][image]));
    for (const words of captions) for (const word of words) sum[word] = 0;
    for (const words of captions) for (const word of words) sum[word] += 1 / Math.sqrt(words.length);
    let squared = 0;
    for (const words of captions) for (const word of words) squared += sum[word] / Math.sqrt(words.length);
    return Math.max(0, 1 - (squared - K) / (K * (K - 1)));
  }

  /** Per image its disagreement; kept until other systems are asked about. */
  disagreement(systems) {
    const key = systems.join(" ");
    if (this.disagreementKey !== key) {
      this.disagreements = Float64Array.from({length: this.count}, (_, image) => this.disagreementOf(systems, image));
      this.disagreementKey = key;
    }
    return this.disagreements;
  }

  /**
   * The images that a choice leaves, in its order. choice: {systems (numbers), query, where ("both", "captions", "references"), error ("", "some", "none"
   * or a class), metric, from, to (numbers or null), sort ("", "low-METRIC", "high-METRIC", "high-disagreement", ...)}. An image stays where the caption
   * of one of the systems has the error, lies in the range and, unless a reference has it, holds the text.
   */
  select(choice) {
    const {systems, where} = choice, query = searchable(choice.query);
    const wanted = query === " " ? null : query;
    if (wanted) this.prepare();
    const inCaption = wanted && where !== "references" ? Uint8Array.from(this.texts, (text) => text.includes(wanted)) : null;
    const anyCaption = choice.error === "" && choice.from === null && choice.to === null;
    const found = [];
    for (let image = 0; image < this.count; image++) {
      const inReferences = !wanted || (where !== "captions" && this.references[image].some((text) => text.includes(wanted)));
      if (anyCaption && inReferences) found.push(image);
      else if ((inReferences || inCaption) && systems.some((system) => this.#fits(choice, system, image)
        && (inReferences || inCaption[this.data.captions[system][image]]))) found.push(image);
    }
    return this.#sorted(found, choice);
  }

  #fits({error, metric, from, to}, system, image) {
    const bits = this.kinds[system][image], value = this.values[metric][system][image];
    if (error === "some" ? !bits : error === "none" ? bits : error && !(bits & (1 << this.data.kinds.indexOf(error)))) return false;
    // Scores are shown with one digit: what reads 12.3 lies in a range that ends at 12.3.
    return (from === null || value >= from - 1e-4) && (to === null || value <= to + 1e-4);
  }

  #sorted(found, {systems, sort}) {
    if (!sort) return found;
    const [way, ...rest] = sort.split("-"), metric = rest.join("-");
    const keys = metric === "disagreement" ? this.disagreement(systems) : new Float64Array(this.count);
    if (metric !== "disagreement") for (const image of found) keys[image] = this.meanOf(metric, systems, image);
    const sign = way === "high" ? -1 : 1;
    return found.sort((a, b) => sign * (keys[a] - keys[b]) || a - b);
  }
}

