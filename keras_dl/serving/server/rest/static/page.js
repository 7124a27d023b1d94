// The page: models and versions, refreshed every few seconds, and requests to one of them.

import { show } from "./answers.js";
import { exact, make, member, parse, write } from "./data.js";
import { fields, start } from "./fields.js";

const SECONDS = 3;
const LONGEST_COMMAND = 20000; // longer requests are saved as a file, because shells limit the length

const $ = (id) => document.getElementById(id);
let models = []; // from /page/models.json
let chosen = { name: null, version: null, signature: null }; // version null: the newest available one
let form = null; // the signature of the fields, and how to read them

const model = () => models.find(({ name }) => name === chosen.name);
const available = () => (model()?.versions ?? []).filter(({ signatures }) => signatures);
const version = () => available().find(({ version }) => version === chosen.version) ?? available()[0];

async function refresh() {
  try {
    const response = await fetch("page/models.json");
    if (!response.ok) throw new Error(await response.text());
    const text = await response.text();
    if (text !== refresh.last) {
      refresh.last = text;
      models = parse(text);
      showModels();
    }
    trouble(models.length ? "" : "No model is served.");
  } catch (error) {
    trouble(`Cannot load the models: ${error.message}`);
  }
  setTimeout(() => {
    if (document.hidden) addEventListener("visibilitychange", refresh, { once: true });
    else refresh();
  }, 1000 * SECONDS);
}

function trouble(text) {
  $("trouble").hidden = !text;
  if ($("trouble").textContent !== text) $("trouble").textContent = text;
}

function state({ state, error }) {
  const kind = { AVAILABLE: "good", END: "bad" }[state] ?? "busy";
  return make("span", { className: `state ${kind}`, title: error }, error ? `${state}: ${error}` : state);
}

function showModels() {
  if (!model()) {
    const named = models.find(({ name }) => `#${encodeURIComponent(name)}` === location.hash);
    chosen = { name: (named ?? models[0])?.name ?? null, version: null, signature: null };
  }
  const links = models.map(({ name, versions }) => {
    const ready = versions.some(({ state }) => state === "AVAILABLE");
    const link = make("a", { href: `#${encodeURIComponent(name)}`, className: ready ? "good" : "busy" }, name);
    if (name === chosen.name) link.setAttribute("aria-current", "page");
    return link;
  });
  $("models").replaceChildren(...links);
  $("model").hidden = !model();
  if (model()) showModel();
}

function showModel() {
  document.title = chosen.name;
  $("name").textContent = chosen.name;
  const rows = model().versions.map((one) => {
    const checked = one === version();
    const choice = make("input", { type: "radio", name: "version", checked, disabled: !one.signatures });
    choice.setAttribute("aria-label", `use version ${one.version}`);
    choice.onchange = () => choose({ version: one.version });
    const labels = one.labels.flatMap((label) => [make("span", { className: "label" }, label), " "]);
    const cells = [choice, one.version, state(one), make("span", {}, ...labels), one.exported ?? ""];
    return make("tr", {}, ...cells.map((cell) => make("td", {}, cell)));
  });
  $("versions").replaceChildren(...rows);
  const { signatures = {}, origin, git_commit: commit } = version() ?? {};
  const later = (name) => name !== "serving_default";
  const names = Object.keys(signatures).sort((first, second) => later(first) - later(second));
  if (!(chosen.signature in signatures)) chosen.signature = names[0] ?? null;
  $("signatures").hidden = names.length < 2;
  $("signature").replaceChildren(...names.map((name) => make("option", {}, name)));
  $("signature").value = chosen.signature;
  $("tensors").replaceChildren(...names.flatMap((name) => tensors(name, signatures[name])));
  const details = Object.entries({ ...origin, ...(commit ? { git_commit: commit } : {}) });
  $("history").hidden = !details.length;
  const pair = ([key, value]) => [make("dt", {}, key.replaceAll("_", " ")), make("dd", {}, describe(value))];
  $("origin").replaceChildren(...details.flatMap(pair));
  // Keep typed and drawn input while only states change.
  const key = JSON.stringify([chosen.name, chosen.signature, signatures[chosen.signature]]);
  if (form?.key === key) return;
  $("raw").checked = false;
  showForm(key);
}

function describe(value) {
  if (value === null || typeof value !== "object") return String(value);
  return Object.entries(value).map(([key, item]) => `${key} ${describe(item)}`).join(", ");
}

function tensors(signature, { inputs, outputs }) {
  const row = (way) => ([name, { dtype, shape }], index) => {
    const lengths = shape ? `[${shape.map((length) => length ?? "any").join(", ")}]` : "any";
    const cells = [way === "input" && !index ? signature : "", index ? "" : way, name, dtype, lengths];
    return make("tr", {}, ...cells.map((cell) => make("td", {}, cell)));
  };
  return [...Object.entries(inputs).map(row("input")), ...Object.entries(outputs).map(row("output"))];
}

/** Returns the initial request of the form. */
function exampleRequest() {
  const { signatures, request } = version();
  const { inputs, method } = signatures[chosen.signature];
  const named = chosen.signature === "serving_default" ? {} : { signature_name: chosen.signature };
  if (method !== "predict") return { ...named, examples: [{}] };
  return { ...named, inputs: start(inputs, request ?? {}, signatures.serving_default?.inputs ?? {}) };
}

/** Shows the form with a request, the example or the given text, as fields or as JSON. */
function showForm(key, text) {
  const given = text !== undefined;
  $("form").hidden = !version();
  if (!given) $("command").hidden = true;
  if (!version()) {
    form = null; // created again when a version is available
    return showError("", "No version is available.");
  }
  const { inputs, method } = version().signatures[chosen.signature];
  const body = given ? parse(text) : exampleRequest();
  const kept = given && !exact(text); // fields would change some of its numbers
  const whole = !kept && isObject(body.inputs) && Object.keys(inputs).every((name) => name in body.inputs);
  $("raw").disabled = method !== "predict";
  if ($("raw").checked || method !== "predict" || !whole) {
    $("raw").checked = true;
    const area = make("textarea", { className: "code", rows: 14, value: kept ? text : write(body), spellcheck: false });
    area.setAttribute("aria-label", "the request as JSON");
    $("fields").replaceChildren(area);
    form = { key, method, text: () => area.value };
  } else {
    const made = fields(inputs, body.inputs);
    const { inputs: _, ...others } = body;
    const before = Object.entries(others).map(([name, value]) => member(name, JSON.stringify(value)));
    $("fields").replaceChildren(...made.elements);
    form = { key, method, text: () => `{${[...before, member("inputs", made.text())].join(",")}}` };
  }
  if (!given) for (const id of ["answer", "latency"]) $(id).replaceChildren();
}

/** Sends the content of the form unchanged, so that errors are those of the server. */
async function ask(event) {
  event.preventDefault();
  if (!form) return;
  let text;
  try {
    text = form.text();
  } catch (error) {
    return showError("", error.message);
  }
  const one = version();
  const place = one === available()[0] ? "" : `/versions/${one.version}`;
  const path = `/v1/models/${encodeURIComponent(chosen.name)}${place}:${form.method}`;
  showCommand(new URL(path, location).href, text);
  $("ask").disabled = true;
  const before = performance.now();
  try {
    const response = await fetch(path, { method: "POST", body: text, headers: { "Content-Type": "application/json" } });
    const answer = await response.text();
    $("latency").textContent = `${(performance.now() - before).toFixed(1)} ms`;
    const parsed = parse(answer);
    if (!response.ok) return showError(`${response.status} `, parsed.error);
    $("answer").replaceChildren(show(named(parsed), given(text)));
  } catch (error) {
    showError("", `No answer: ${error.message}`);
  } finally {
    $("ask").disabled = false;
  }
}

/** Returns an answer as `{output: [rows]}`: TensorFlow Serving omits the name of a single output. */
function named({ outputs, predictions, results }) {
  const names = Object.keys(version().signatures[chosen.signature].outputs);
  if (results) return { results };
  if (names.length === 1) return { [names[0]]: outputs ?? predictions };
  return outputs ?? Object.fromEntries(names.map((name) => [name, predictions.map((row) => row[name])]));
}

function given(text) {
  const { inputs } = parse(text);
  return isObject(inputs) ? inputs : {};
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

function showError(status, message) {
  $("answer").replaceChildren(make("p", { className: "refused" }, `${status}${message}`));
}

function showCommand(url, text) {
  const quoted = (part) => `'${part.replaceAll("'", "'\\''")}'`;
  const long = text.length > LONGEST_COMMAND;
  $("command").hidden = false;
  $("curl").textContent = `curl -d ${long ? "@request.json" : quoted(text)} ${quoted(url)}`;
  $("save").hidden = !long;
  URL.revokeObjectURL($("save").href);
  $("save").href = long ? URL.createObjectURL(new Blob([text])) : "";
}

function choose(change) {
  chosen = { ...chosen, ...change };
  showModels();
}

$("form").onsubmit = ask;
$("example").onclick = () => showForm(form.key);
$("signature").onchange = () => choose({ signature: $("signature").value });
$("raw").onchange = () => {
  try {
    showForm(form.key, form.text());
  } catch (error) {
    $("raw").checked = !$("raw").checked; // fields cannot show invalid JSON
    showError("", error.message);
  }
};
$("copy").onclick = async () => {
  await navigator.clipboard?.writeText($("curl").textContent);
  $("copy").textContent = navigator.clipboard ? "Copied" : "Copy the text above";
  setTimeout(() => ($("copy").textContent = "Copy"), 2000);
};
addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
addEventListener("hashchange", () => choose({ name: null }));
refresh();
