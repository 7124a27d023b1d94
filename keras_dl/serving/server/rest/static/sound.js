// Recordings from an audio file or the microphone, as samples from -1 to 1 at 8000 Hz.

import { make } from "./data.js";
import { waveform } from "./plots.js";

export const RATE = 8000;

/** Creates the field of `waveform` and `length`: `read()` returns `[1, samples]` and `[1]`. */
export function sound(example, length) {
  let samples = example[0].slice(0, length[0]);
  let recorder = null;
  const file = make("input", { type: "file", accept: "audio/*,.wav", onchange: () => load(file.files[0]) });
  const play = make("button", { type: "button", onclick: listen }, "Play");
  const record = make("button", { type: "button", onclick: speak }, "Record");
  record.hidden = !navigator.mediaDevices || !window.MediaRecorder;
  const status = make("span", { className: "note" });
  const picture = make("div");
  const tools = make("p", {}, make("label", {}, "audio file ", file), " ", record, " ", play, " ", status);
  const element = make("div", { className: "field" }, make("b", {}, "waveform"), tools, picture);

  function show() {
    picture.replaceChildren(waveform(samples));
    status.textContent = `${(samples.length / RATE).toFixed(2)} s, ${samples.length} samples`;
  }

  async function load(blob) {
    if (!blob) return;
    try {
      // Decoding resamples to the rate of the context.
      const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await blob.arrayBuffer());
      const channels = Array.from({ length: decoded.numberOfChannels }, (_, index) => decoded.getChannelData(index));
      const mean = (index) => channels.reduce((sum, channel) => sum + channel[index], 0) / channels.length;
      samples = Array.from({ length: decoded.length }, (_, index) => Number(mean(index).toFixed(5)));
      show();
    } catch {
      status.textContent = "the browser cannot read this file";
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
      status.textContent = `microphone not available: ${error.message}`;
    }
  }

  show();
  return { element, read: () => ({ waveform: [samples], length: [samples.length] }) };
}
