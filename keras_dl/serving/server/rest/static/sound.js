// Recordings: a WAV file or the microphone, as samples from -1 to 1, 8000 a second.

import { make } from "./data.js";
import { waveform } from "./plots.js";

export const RATE = 8000;

/** The field of `waveform` and `length`: `read()` gives `[1, samples]` and `[1]`. */
export function sound(example, length) {
  let samples = example[0].slice(0, length[0]);
  let recorder = null;
  const file = make("input", { type: "file", accept: "audio/*,.wav", onchange: () => load(file.files[0]) });
  const play = make("button", { type: "button", onclick: listen }, "Play");
  const record = make("button", { type: "button", onclick: speak }, "Record");
  record.hidden = !navigator.mediaDevices || !window.MediaRecorder;
  const said = make("span", { className: "note" });
  const picture = make("div");
  const tools = make("p", {}, make("label", {}, "a recording ", file), " ", record, " ", play, " ", said);
  const element = make("div", { className: "field" }, make("b", {}, "waveform"), tools, picture);

  function show() {
    picture.replaceChildren(waveform(samples));
    said.textContent = `${(samples.length / RATE).toFixed(2)} s, ${samples.length} samples`;
  }

  async function load(blob) {
    if (!blob) return;
    try {
      // The context's rate is that of what it decodes to.
      const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await blob.arrayBuffer());
      const channels = Array.from({ length: decoded.numberOfChannels }, (_, index) => decoded.getChannelData(index));
      const mean = (index) => channels.reduce((sum, channel) => sum + channel[index], 0) / channels.length;
      samples = Array.from({ length: decoded.length }, (_, index) => Number(mean(index).toFixed(5)));
      show();
    } catch {
      said.textContent = "this is no recording that the browser can read";
    }
  }

  function listen() {
    const context = new AudioContext();
    const buffer = context.createBuffer(1, Math.max(1, samples.length), RATE);
    buffer.copyToChannel(Float32Array.from(samples), 0);
    const source = Object.assign(context.createBufferSource(), { buffer, onended: () => context.close() });
    source.connect(context.destination);
    source.start();
  }

  async function speak() {
    if (recorder) return recorder.stop();
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
      const pieces = [];
      recorder = new MediaRecorder(stream);
      recorder.ondataavailable = (event) => pieces.push(event.data);
      recorder.onstop = () => {
        stream.getTracks().forEach((track) => track.stop());
        recorder = null;
        record.textContent = "Record";
        load(new Blob(pieces));
      };
      recorder.start();
      record.textContent = "Stop";
    } catch (error) {
      said.textContent = `no microphone: ${error.message}`;
    }
  }

  show();
  return { element, read: () => ({ waveform: [samples], length: [samples.length] }) };
}
