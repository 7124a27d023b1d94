// The form of a signature: a field for each input, depending on its name, type and rank.

import { bare, blank, make, member, parse, write } from "./data.js";
import { pad } from "./pad.js";
import { sound } from "./sound.js";

const HEIGHT = 32; // of an image if neither an example nor the signature defines it

/**
 * Creates the fields for `values`, `{input: value}`. `text()` returns their content as JSON, with numbers as typed, and
 * throws an Error that names a field with invalid JSON.
 */
export function fields(inputs, values) {
  const rest = { ...inputs };
  const made = [];
  const isSound = kind(inputs.waveform) === "float 2" && kind(inputs.length) === "int 1";
  if (isSound && Array.isArray(values.waveform[0])) {
    made.push(sound(values.waveform, values.length));
    delete rest.waveform;
    delete rest.length;
  }
  for (const [name, tensor] of Object.entries(rest)) made.push(field(name, tensor, values[name]));
  return {
    elements: made.map(({ element }) => element),
    text: () => `{${made.flatMap(members).join(",")}}`,
  };
}

/** Returns the JSON members of a field, from its texts or its values. */
const members = ({ texts, read }) =>
  Object.entries(texts?.() ?? read()).map(([name, value]) => member(name, texts ? value : JSON.stringify(value)));

/** Returns initial values: those of the example with the same name or else the same shape, and blank ones. */
export function start(inputs, example, exampleInputs) {
  const form = (tensor) => JSON.stringify(tensor);
  const value = ([name, tensor]) => {
    const alike = (key) => tensor.shape?.length > 1 && form(exampleInputs[key]) === form(tensor);
    const other = Object.keys(exampleInputs).find(alike);
    return [name, structuredClone(example[name] ?? example[other] ?? blank(tensor))];
  };
  return Object.fromEntries(Object.entries(inputs).map(value));
}

function field(name, tensor, value) {
  switch (kind(tensor)) {
    case "float 3":
      if (name === "image" && Array.isArray(value?.[0])) {
        return pad(name, value, value[0].length > 1 ? value[0].length : tensor.shape[1] ?? HEIGHT);
      }
      break;
    case "string 1":
      if (Array.isArray(value) && value.every((text) => typeof text === "string")) return texts(name, value);
      break;
    case "string 0":
      if (typeof value === "string") return single(name, { type: "text", value }, (input) => input.value);
      break;
    case "bool 0":
      return single(name, { type: "checkbox", checked: value }, (input) => input.checked);
    case "int 0":
    case "float 0":
      return number(name, value);
  }
  return json(name, tensor, value);
}

/** Returns the type and rank of a tensor, such as "int 1". */
function kind(tensor) {
  if (!tensor?.shape) return "";
  return `${tensor.dtype.replace(/^u(?=int)|\d+$/g, "").replace("double", "float")} ${tensor.shape.length}`;
}

function labeled(name, control, ...others) {
  return make("div", { className: "field" }, make("label", {}, make("b", {}, name), control), ...others);
}

function single(name, properties, value) {
  const input = make("input", properties);
  return { element: labeled(name, input), read: () => ({ [name]: value(input) }) };
}

function number(name, value) {
  const input = make("input", { type: "number", step: "any", value, required: true });
  const text = () => (/^-?(0|[1-9]\d*)$/.test(input.value) ? input.value : JSON.stringify(input.valueAsNumber));
  return { element: labeled(name, input), texts: () => ({ [name]: text() }) };
}

function texts(name, value) {
  const area = make("textarea", { rows: Math.max(2, Math.min(8, value.length + 1)), value: value.join("\n") });
  const lines = make("input", { type: "checkbox", checked: value.every((text) => !text.includes("\n")) });
  const read = () => ({ [name]: lines.checked ? area.value.replace(/\n+$/, "").split("\n") : [area.value] });
  return { element: labeled(name, area, make("label", { className: "note" }, lines, " each line is a row")), read };
}

function json(name, { dtype }, value) {
  const shown = dtype === "string" ? write(value) : bare(write(value));
  const area = make("textarea", { className: "code", rows: 6, value: shown, spellcheck: false });
  const texts = () => {
    try {
      parse(area.value);
    } catch (error) {
      throw new Error(`${name} is not valid JSON: ${error.message}`);
    }
    return { [name]: area.value.trim() };
  };
  return { element: labeled(name, area), texts };
}
