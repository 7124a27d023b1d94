// SVG plots: lines, a waveform with marks, an alignment.

import { make, readable } from "./data.js";

const WIDE = 800;

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function frame(high, description, ...children) {
  const label = { role: "img", "aria-label": description };
  const view = { viewBox: `0 0 ${WIDE} ${high}`, preserveAspectRatio: "none", class: "plot" };
  return draw("svg", { ...view, ...label }, ...children);
}

/** Plots samples from -1 to 1 at 8000 Hz; marks are `{start, end, text}`, in seconds. */
export function waveform(samples, marks = [], rate = 8000) {
  const step = Math.max(1, samples.length / WIDE);
  const most = Math.max(1e-6, samples.reduce((before, value) => Math.max(before, Math.abs(value)), 0));
  const columns = Array.from({ length: Math.ceil(samples.length / step) }, (_, index) => {
    const part = samples.slice(Math.floor(index * step), Math.floor((index + 1) * step) + 1);
    const [low, high] = [Math.min(...part), Math.max(...part)].map((value) => (60 - (55 * value) / most).toFixed(1));
    const x = ((WIDE * index * step) / samples.length).toFixed(1);
    return `${index ? "L" : "M"}${x} ${high}L${x} ${low}`;
  });
  const at = (seconds) => (100 * seconds * rate) / Math.max(1, samples.length);
  const description = `${(samples.length / rate).toFixed(2)} seconds of audio`;
  const picture = frame(120, description, draw("path", { d: columns.join("") }));
  const labels = marks.map(({ start, end, text }) => {
    const mark = make("span", { className: "mark", title: `${start.toFixed(2)} s to ${end.toFixed(2)} s` }, text);
    Object.assign(mark.style, { left: `${at(start)}%`, width: `${Math.max(0.3, at(end) - at(start))}%` });
    return mark;
  });
  return make("div", { className: "wave" }, picture, ...labels);
}

/** Plots series `[time, variables]`, one line per variable: the input, and the answer, which starts at `offset`. */
export function lines(given, answer, offset) {
  const all = [...given.flat(), ...answer.flat()].filter(Number.isFinite);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const last = Math.max(given.length, offset + answer.length) - 1;
  const path = (rows, variable, start) =>
    rows
      .map((row, index) => {
        const y = 155 - (150 * (row[variable] - low)) / (high - low || 1);
        return Number.isFinite(y) ? `${((WIDE * (start + index)) / Math.max(1, last)).toFixed(1)},${y.toFixed(1)}` : "";
      })
      .join(" ");
  const line = (rows, start, kind) => (_, variable) =>
    draw("polyline", { points: path(rows, variable, start), class: `${kind} line${variable % 6}` });
  const picture = frame(
    160,
    `${answer.length} steps from ${readable(low)} to ${readable(high)}`,
    ...Array.from(given[0] ?? [], line(given, 0, "given")),
    ...Array.from(answer[0], line(answer, offset, "answer")),
  );
  const legend = given.length ? "thin: input; thick: answer; " : "";
  const scale = make("figcaption", { className: "note" }, `${legend}${readable(low)} to ${readable(high)}`);
  return make("figure", {}, picture, scale);
}

/** Shows attention weights `[output, input]` as a table. */
export function alignment(weights, written, read) {
  const most = Math.max(1e-9, ...weights.map((row) => Math.max(...row)));
  const head = make("tr", {}, make("td"), ...read.map((symbol) => make("th", { scope: "col" }, symbol)));
  const rows = weights.map((row, index) => {
    const cells = row.map((weight, place) => {
      const cell = make("td", { title: `${written[index]} ← ${read[place]}: ${readable(weight)}` });
      cell.style.setProperty("--weight", weight / most);
      return cell;
    });
    return make("tr", {}, make("th", { scope: "row" }, written[index]), ...cells);
  });
  const caption = make("p", { className: "note" }, "attention: outputs in rows, inputs in columns");
  return make("div", { className: "scroll" }, caption, make("table", { className: "alignment" }, head, ...rows));
}
