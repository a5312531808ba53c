// Throughput and latency as they are now. Server-sent events, read by fetch: an EventSource cannot send a key.

import { lines, send } from "/page/api.js";
import { find, say } from "/page/dom.js";

const KEPT = 60;
const AGAIN_MS = 3000;
const pause = find("live-pause");
const history = new Array(KEPT).fill(0);
let watching = null;

export function start() {
  pause.addEventListener("click", () => (watching ? stop() : watch()));
}

export function stop() {
  watching?.abort();
  watching = null;
  pause.textContent = "Resume";
}

/** Watch from now on, again and again where the connection ends, until it is stopped. */
export async function watch() {
  watching?.abort();
  const mine = (watching = new AbortController());
  pause.textContent = "Pause";
  while (!mine.signal.aborted) {
    try {
      const response = await send("/v1/metrics/live", { signal: mine.signal });
      say(find("live-problem"), "");
      for await (const line of lines(response)) {
        if (mine.signal.aborted) return;
        if (line.startsWith("data:")) show(JSON.parse(line.slice(5)));
      }
    } catch (error) {
      if (mine.signal.aborted) return;
      state(false, "No connection");
      say(find("live-problem"), error.message);
      if (error.status === 401 || error.status === 403) return stop();
    }
    await new Promise((later) => setTimeout(later, AGAIN_MS));
  }
}

function show(event) {
  const hits = event.cache_hits_per_second;
  const looked = hits + event.cache_misses_per_second;
  find("live-texts").textContent = round(event.texts_per_second);
  find("live-requests").textContent = round(event.requests_per_second);
  find("live-p50").textContent = milliseconds(event.p50_ms);
  find("live-p99").textContent = milliseconds(event.p99_ms);
  find("live-cache").textContent = hits == null ? "off" : looked ? `${Math.round((100 * hits) / looked)} %` : "–";
  find("live-queued").textContent = event.queued_texts;
  state(event.ready, event.ready ? "Ready" : "Not ready");
  history.push(event.texts_per_second);
  history.shift();
  const most = Math.max(1, ...history);
  const points = history.map((value, at) => `${((120 * at) / (KEPT - 1)).toFixed(1)},${(38 - (36 * value) / most).toFixed(1)}`);
  find("live-chart").querySelector("polyline").setAttribute("points", points.join(" "));
  find("live-most").textContent = round(Math.max(...history));
}

function state(ready, words) {
  const element = find("state");
  element.classList.toggle("ready", ready);
  if (element.textContent !== words) element.textContent = words; // said once, not every second
}

const round = (value) => (value < 10 ? value.toFixed(1).replace(/\.0$/, "") : value.toFixed(0));
const milliseconds = (value) => (value == null ? "–" : `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`);
