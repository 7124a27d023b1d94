// A pad for drawing with a mouse, finger or pen; the image that is sent has the height that the model expects.

import { fitInk, make, resize } from "./data.js";

// Handwriting is normalized to the training data of the line models, in which digits were cropped and put side by side.
// Writing on the pad varies in height, has less space between digits, and thinner lines.
const INK = 0.8; // share of the height: leaves a margin of an eighth of the ink above and below
const THICKNESS = 0.17; // of a line, relative to the height of the ink
const PITCH = 1.2; // minimum width of a digit, relative to the height of the ink
const FINE = 8; // rows that are drawn per row that is sent
const SMALLEST = 20; // pixels of the pad: smaller drawings, such as a dot, are not enlarged

/**
 * Creates the field of an image: `read()` returns `[1, height, width]`, 0 = background. It starts with an example of
 * the same shape, whose maximum is the value of ink; without an example, ink is 255.
 */
export function pad(name, example, height) {
  const full = Math.max(0, ...example.flat(2)) || 255;
  let given = example[0]?.some((row) => row.some((value) => value > 0)) ? example[0] : null;
  let strokes = [];
  let stroke = null;
  const canvas = make("canvas", { className: "pad ink", tabIndex: 0 });
  canvas.setAttribute("aria-label", `${name}: draw here, or load an image`);
  const seen = make("canvas", { className: "seen ink" });
  const undo = make("button", { type: "button", onclick: () => changed(strokes.pop()) }, "Undo");
  const clear = make("button", { type: "button", onclick: () => changed((strokes = [])) }, "Clear");
  const file = make("input", { type: "file", accept: "image/*", onchange: load });
  const tools = make("p", {}, undo, " ", clear, " ", make("label", {}, "or load an image ", file));
  const sent = make("p", { className: "note" }, "sent image: ", seen);
  const element = make("div", { className: "field" }, make("b", {}, name), canvas, tools, sent);

  function paint() {
    const scale = devicePixelRatio;
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
    Object.assign(canvas, { width: wide * scale, height: high * scale });
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    if (!given) drawStrokes(context, strokes, Math.max(8, high * 0.1));
    else {
      const size = Math.min(high / given.length, wide / given[0].length);
      context.translate(0, (high - size * given.length) / 2);
      drawPixels(context, given, size);
    }
    const pixels = read()[0];
    Object.assign(seen, { width: pixels[0].length, height: pixels.length });
    drawPixels(seen.getContext("2d"), pixels, 1);
  }

  function changed() {
    given = null;
    paint();
  }

  async function load() {
    if (!file.files.length) return;
    try {
      given = inInk(fitInk(await decode(file.files[0]), height));
      strokes = [];
    } catch {
      file.setCustomValidity("the browser cannot read this image");
      file.reportValidity();
    }
    paint();
  }

  const scaled = (value) => Number(((value * full) / 255).toPrecision(3));
  const inInk = (pixels) => pixels.map((row) => Array.from(row, scaled));
  const read = () => [given ?? inInk(rasterize(strokes, height))];

  const point = ({ clientX, clientY }) => {
    const { left, top } = canvas.getBoundingClientRect();
    return [clientX - left, clientY - top];
  };
  canvas.onpointerdown = (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    strokes.push((stroke = [point(event)]));
    file.setCustomValidity("");
    changed();
  };
  canvas.onpointermove = (event) => {
    if (!stroke) return;
    for (const step of event.getCoalescedEvents?.() ?? [event]) stroke.push(point(step));
    paint();
  };
  canvas.onpointerup = canvas.onpointercancel = () => (stroke = null);
  canvas.onkeydown = (event) => {
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo.click();
    if (event.key === "Delete" || event.key === "Backspace") clear.click();
  };
  new ResizeObserver(paint).observe(canvas);
  return { element, read: () => ({ [name]: read() }) };
}

function drawStrokes(context, strokes, width) {
  Object.assign(context, { lineWidth: width, lineCap: "round", lineJoin: "round" });
  for (const points of strokes) {
    context.beginPath();
    context.moveTo(...points[0]);
    for (const point of points) context.lineTo(...point);
    context.stroke();
  }
}

function drawPixels(context, pixels, size) {
  const most = Math.max(1e-9, ...pixels.map((row) => Math.max(...row)));
  pixels.forEach((row, y) =>
    row.forEach((value, x) => {
      context.globalAlpha = Math.max(0, value / most);
      context.fillRect(x * size, y * size, size, size);
    }),
  );
}

/** Converts strokes to rows of pixels from 0 to 255: each digit fills the height and has enough space. */
function rasterize(strokes, height) {
  const ink = INK * FINE * height;
  const width = THICKNESS * ink;
  const [top, bottom] = range(strokes, 1);
  const high = Math.max(SMALLEST, bottom - top);
  const edge = ((1 - INK) / 2) * FINE * height;
  let right = edge;
  const placed = groupDigits(strokes).flatMap((digit) => {
    const [[left, end], [upper, lower]] = [range(digit, 0), range(digit, 1)];
    const own = lower - upper;
    const scale = (ink - width) / Math.max(own, high / 2);
    const down = ((ink - width - own * scale) * (upper - top)) / Math.max(1, high - own);
    const room = Math.max(PITCH * ink, (end - left) * scale + width);
    const start = right + (room - (end - left) * scale) / 2;
    right += room;
    const place = ([x, y]) => [(x - left) * scale + start, (y - upper) * scale + down + edge + width / 2];
    return digit.map((stroke) => stroke.map(place));
  });
  const columns = Math.max(height, Math.ceil((right + edge) / FINE));
  const canvas = make("canvas", { width: columns * FINE, height: height * FINE });
  const context = canvas.getContext("2d");
  drawStrokes(context, placed, width);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return resize(rowsOf(data.filter((_, index) => index % 4 === 3), canvas.width), height, columns);
}

/** Returns the minimum and maximum of the points of strokes along an axis. */
function range(strokes, axis) {
  const places = strokes.flat().map((point) => point[axis]);
  return [Math.min(...places), Math.max(...places)];
}

/** Groups strokes that overlap horizontally: one list per digit, from left to right. */
function groupDigits(strokes) {
  const sorted = strokes.map((stroke) => [range([stroke], 0), stroke]).sort(([[first]], [[second]]) => first - second);
  const digits = [];
  let reached = -Infinity;
  for (const [[left, right], stroke] of sorted) {
    if (left > reached) digits.push([]);
    digits.at(-1).push(stroke);
    reached = Math.max(reached, right);
  }
  return digits;
}

async function decode(file) {
  const picture = await createImageBitmap(file);
  const shrink = Math.min(1, 4000 / picture.width, 1000 / picture.height);
  const canvas = make("canvas", { width: picture.width * shrink, height: picture.height * shrink });
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // behind transparent parts
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const gray = Array.from({ length: data.length / 4 }, (_, index) => {
    const [red, green, blue] = data.subarray(4 * index, 4 * index + 3);
    return 0.299 * red + 0.587 * green + 0.114 * blue;
  });
  return rowsOf(gray, canvas.width);
}

const rowsOf = (values, width) =>
  Array.from({ length: values.length / width }, (_, row) => Array.from(values.slice(row * width, (row + 1) * width)));
