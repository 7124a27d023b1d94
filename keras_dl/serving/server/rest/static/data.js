// Helpers for elements, the server's JSON, and arrays.

/** Creates an element; strings among the children are inserted as text, never as HTML. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Turns the numbers that browsers cannot parse into strings: NaN, infinities and integers beyond 2^53. */
function quote(text) {
  const special = /"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b|-?\b\d{16,}\b(?![.eE])/g;
  const plain = (part) => part[0] === '"' || Number.isSafeInteger(Number(part));
  // Digits after a decimal point belong to an ordinary number.
  return text.replace(special, (part, at) => (plain(part) || text[at - 1] === "." ? part : `"${part}"`));
}

/** Parses JSON with bare NaN and Infinity, as TensorFlow Serving writes it; these and long integers become strings. */
export const parse = (text) => JSON.parse(quote(text));

/** Returns whether `parse` keeps all numbers of a text as numbers. */
export const exact = (text) => quote(text) === text;

/** Restores the bare numbers that `parse` turned into strings. */
export const bare = (text) => text.replace(/"(NaN|-?Infinity|-?\d{16,})"/g, "$1");

/** Writes a member of an object; its value is already JSON. */
export const member = (name, text) => `${JSON.stringify(name)}:${text}`;

/** Writes JSON with one line per row of numbers. */
export function write(value, indent = "") {
  const deeper = indent + "  ";
  if (Array.isArray(value) && value.some((item) => item !== null && typeof item === "object")) {
    return `[\n${value.map((item) => deeper + write(item, deeper)).join(",\n")}\n${indent}]`;
  }
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    const lines = Object.entries(value).map(([key, item]) => `${deeper}${JSON.stringify(key)}: ${write(item, deeper)}`);
    return lines.length ? `{\n${lines.join(",\n")}\n${indent}}` : "{}";
  }
  return JSON.stringify(value);
}

/** Writes abbreviated JSON: the beginning of long lists, and five digits of numbers. */
export function shorten(value, most = 12) {
  const short = (item) => {
    if (typeof item === "number") return readable(item);
    if (Array.isArray(item)) {
      const rest = item.length - most;
      return `[${item.slice(0, most).map(short).join(", ")}${rest > 0 ? `, … ${rest} more` : ""}]`;
    }
    if (item !== null && typeof item === "object") {
      return `{${Object.entries(item).map(([key, inner]) => `${key}: ${short(inner)}`).join(", ")}}`;
    }
    return JSON.stringify(item);
  };
  return Array.isArray(value) && Array.isArray(value[0])
    ? value.slice(0, most).map(short).join("\n") + (value.length > most ? `\n… ${value.length - most} more` : "")
    : short(value);
}

export const readable = (number) => (Number.isInteger(number) ? String(number) : String(Number(number.toPrecision(5))));

/** Returns the lengths of nested lists, or null if they are irregular. */
export function shape(value) {
  if (!Array.isArray(value)) return [];
  const inner = value.map(shape);
  const same = inner.every((lengths) => lengths && String(lengths) === String(inner[0]));
  return same ? [value.length, ...(inner[0] ?? [])] : null;
}

/** Creates a value for an input without an example: one element for each unknown length. */
export function blank({ dtype, shape: lengths }, axis = 0) {
  if (lengths && axis < lengths.length) {
    return Array.from({ length: lengths[axis] ?? 1 }, () => blank({ dtype, shape: lengths }, axis + 1));
  }
  return dtype === "string" ? "" : dtype === "bool" ? false : axis < 2 ? 1 : 0;
}

/** Resizes rows of numbers: each new pixel is the mean of the area that it covers. */
export function resize(pixels, height, width) {
  const shrink = (rows, count) => {
    const step = rows.length / count;
    return Array.from({ length: count }, (_, index) => {
      const [start, end] = [index * step, Math.min((index + 1) * step, rows.length)];
      const sum = new Float64Array(rows[0].length);
      for (let row = Math.floor(start); row < end; row++) {
        const share = (Math.min(row + 1, end) - Math.max(row, start)) / (end - start);
        rows[row].forEach((value, column) => (sum[column] += share * value));
      }
      return sum;
    });
  };
  const turn = (rows) => Array.from(rows[0], (_, column) => Float64Array.from(rows, (row) => row[column]));
  return turn(shrink(turn(shrink(pixels, height)), width));
}

/**
 * Prepares a picture for models that read lines of writing, like `keras-dl predict --image`: 0 is the background, the
 * picture is cropped to the rows with ink plus a margin of an eighth of their number, and scaled to `height` rows.
 */
export function fitInk(pixels, height) {
  const all = Float64Array.from(pixels.flatMap((row) => [...row])).sort();
  const light = all[all.length >> 1] > 127;
  const rows = light ? pixels.map((row) => row.map((value) => 255 - value)) : pixels;
  const most = light ? 255 - all[0] : all[all.length - 1];
  const inked = rows.flatMap((row, index) => (most > 0 && row.some((value) => value > 0.3 * most) ? [index] : []));
  if (!inked.length) return resize(rows, height, Math.max(1, Math.round((rows[0].length * height) / rows.length)));
  const [top, bottom] = [inked[0], inked[inked.length - 1] + 1];
  const margin = Math.ceil((bottom - top) / 8);
  const empty = () => new Float64Array(rows[0].length);
  const cut = Array.from({ length: bottom - top + 2 * margin }, (_, row) => rows[top - margin + row] ?? empty());
  return resize(cut, height, Math.max(1, Math.ceil((cut[0].length * height) / cut.length)));
}
