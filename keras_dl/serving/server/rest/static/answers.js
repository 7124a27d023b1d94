// Shows an answer row by row: text in large type, and plots where possible.

import { make, readable, shape, shorten } from "./data.js";
import { alignment, lines, waveform } from "./plots.js";

const MOST_ROWS = 20;
const MOST_CELLS = 10000;
const MOST_ITEMS = 1000; // in a list, table or text

/** Returns an element that shows the `outputs`, `{name: value}`, of a request with `inputs`. */
export function show(outputs, inputs) {
  const batched = Object.fromEntries(Object.entries(outputs).filter(([, value]) => Array.isArray(value)));
  const counts = new Set(Object.values(batched).map((value) => value.length));
  if (counts.size !== 1 || [...counts][0] < 1) return make("pre", {}, shorten(outputs));
  const [count] = counts;
  const element = make("div");
  for (let row = 0; row < Math.min(count, MOST_ROWS); row++) {
    element.append(make("article", {}, ...parts(rowOf(batched, row), rowOf(inputs, row), count > 1)));
  }
  if (count > MOST_ROWS) element.append(make("p", { className: "note" }, `… ${count - MOST_ROWS} more rows`));
  for (const [name, value] of Object.entries(outputs)) if (!(name in batched)) element.append(fact(name, value));
  return element;
}

/** Returns one row of `{name: [rows]}`. */
function rowOf(values, row) {
  const present = Object.entries(values).filter(([, value]) => Array.isArray(value) && row in value);
  return Object.fromEntries(present.map(([name, value]) => [name, value[row]]));
}

function parts(outputs, inputs, several) {
  const rest = new Map(Object.entries(outputs));
  const take = (...names) => names.map((name) => [rest.get(name), rest.delete(name)][0]);
  const made = [];
  const asked = Object.values(inputs).find((value) => typeof value === "string");
  if (several && asked !== undefined) made.push(make("p", { className: "note" }, asked));

  const texts = [...rest].filter(([, value]) => typeof value === "string");
  const main = texts.find(([name]) => name === "text" || name === "label") ?? texts[0];
  if (main) {
    take(main[0]);
    const big = make("p", { className: "text" }, make("output", {}, main[1] || "(nothing)"));
    if (typeof rest.get("score") === "number") {
      big.append(make("span", { className: "note" }, ` score ${readable(take("score")[0])}`));
    }
    made.push(big);
  }
  if (isRow(rest.get("words"), "string") && isRow(rest.get("weights"), "number")) {
    made.push(weighted(...take("words", "weights")));
  }
  if (isRow(rest.get("alternatives"), "string")) made.push(best(...take("alternatives", "alternative_scores")));
  if (isMatrix(rest.get("alignment"))) {
    const weights = unpadded(take("alignment")[0]);
    made.push(alignment(weights, symbols(main?.[1], weights.length), symbols(asked, weights[0].length)));
  }
  const columns = [...rest].filter(([, value]) => isRow(value));
  if (columns.length > 1 && new Set(columns.map(([, value]) => value.length)).size === 1) {
    columns.forEach(([name]) => take(name));
    made.push(...table(Object.fromEntries(columns), inputs.waveform));
  }
  for (const [name, value] of rest) {
    if (isMatrix(value) && value[0].length <= 8 && value.length > 1) {
      take(name);
      made.push(make("b", {}, name), series(value, inputs));
    }
  }
  made.push(...[...rest].map(([name, value]) => fact(name, value)));
  return made;
}

const isRow = (value, type) =>
  Array.isArray(value) && value.every((item) => (type ? typeof item === type : typeof item !== "object"));
const isMatrix = (value) => {
  const lengths = shape(value);
  const cells = lengths?.length === 2 ? lengths[0] * lengths[1] : 0;
  return cells > 0 && cells <= MOST_CELLS && isRow(value[0], "number");
};

function fact(name, value) {
  return make("div", { className: "fact" }, make("b", {}, name), " ", make("pre", {}, shorten(value)));
}

function weighted(words, weights) {
  const most = weights.reduce((one, other) => Math.max(one, other), 1e-9);
  const shown = words.slice(0, MOST_ITEMS).flatMap((word, index) => {
    const element = make("span", { className: "word", title: `weight ${readable(weights[index])}` }, word);
    element.style.setProperty("--weight", weights[index] / most);
    return word ? [element, " "] : []; // "" is padding
  });
  return make("p", {}, ...shown, more(words.length));
}

function best(texts, scores = []) {
  const items = texts.slice(0, MOST_ITEMS).map((text, index) => {
    const score = index in scores ? ` ${readable(scores[index])}` : "";
    return make("li", {}, text, make("span", { className: "note" }, score));
  });
  return make("div", {}, make("ol", {}, ...items), more(texts.length));
}

const more = (count) => (count > MOST_ITEMS ? `… ${count - MOST_ITEMS} more` : "");

/** Removes trailing zeros, which are padding: a batch is as wide as its longest row. */
function unpadded(weights) {
  const rows = weights.slice(0, weights.findLastIndex((row) => row.some(Boolean)) + 1);
  const columns = Math.max(...rows.map((row) => row.findLastIndex(Boolean))) + 1;
  return rows.length ? rows.map((row) => row.slice(0, columns)) : weights;
}

/** Returns labels for an axis of `count` entries: the letters or words of the text if they fit, else numbers. */
function symbols(text, count) {
  const numbers = Array.from({ length: count }, (_, index) => String(index));
  if (text === undefined) return numbers;
  for (const parts of [[...text], text.split(" ").filter(Boolean)]) {
    if (parts.length === count) return parts;
    if (parts.length === count - 1) return [...parts, "⏎"]; // with an end symbol
  }
  return numbers;
}

function table(columns, sound) {
  const order = (name) => (isRow(columns[name], "string") ? 0 : ({ start: 1, end: 2 })[name] ?? 3);
  const names = Object.keys(columns).sort((one, other) => order(one) - order(other));
  const first = columns[names[0]];
  const filled = first.map((_, index) => index).filter((index) => first[index] !== ""); // "" is padding
  const cell = (name, value) => {
    if (typeof value !== "number") return String(value);
    if (name === "start" || name === "end") return `${value.toFixed(2)} s`;
    return name === "confidence" ? `${Math.round(100 * value)}%` : readable(value);
  };
  const head = make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)));
  const row = (index) => names.map((name) => make("td", {}, cell(name, columns[name][index])));
  const rows = filled.slice(0, MOST_ITEMS).map((index) => make("tr", {}, ...row(index)));
  const made = [make("div", { className: "scroll" }, make("table", {}, head, ...rows), more(filled.length))];
  if (sound && "start" in columns && "end" in columns) {
    const marks = filled.slice(0, MOST_ITEMS).map((index) => ({
      start: columns.start[index],
      end: columns.end[index],
      text: String(first[index]),
    }));
    made.unshift(waveform(sound, marks));
  }
  return made;
}

/** Plots a series with the input series: from the same start if the lengths are equal, else as its continuation. */
function series(answer, inputs) {
  const given = Object.values(inputs).find((value) => isMatrix(value) && value[0].length === answer[0].length) ?? [];
  if (given.length === answer.length) return lines(given, answer, 0);
  const last = given.slice(-3 * Math.max(answer.length, 30));
  return lines(last, answer, last.length);
}
