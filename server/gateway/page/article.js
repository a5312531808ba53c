// One text: its answer, what the members said, and which words mattered.

import { ask } from "/page/api.js";
import * as correction from "/page/correction.js";
import { bars, find, make, percent, quality, say } from "/page/dom.js";
import { path } from "/page/models.js";

const EXAMPLE =
  "Chip maker raises its forecast as demand for memory grows. Shares of the company rose after it told investors " +
  "that orders from phone makers had doubled since the spring.";
const MOST = 8;
const LEVELS = 4;
const LEAST = 0.001;

const form = find("article").querySelector("form");
const text = find("article-text");
let latest = 0;

export function start() {
  correction.start();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    classify();
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  find("article-example").addEventListener("click", () => {
    text.value = EXAMPLE;
    text.focus();
  });
}

async function classify() {
  const mine = ++latest; // an answer that was overtaken is not shown
  const given = { text: text.value, quality: quality(form) };
  const explain = find("article-explain").checked;
  problem("");
  form.setAttribute("aria-busy", "true");
  try {
    const began = performance.now();
    const { items } = await ask(path("classify"), { ...given, members: true });
    const taken = performance.now() - began;
    if (mine !== latest) return;
    if (items[0].error !== undefined) return problem(`This text is ${items[0].error}.`, true);
    show(items[0], taken);
    correction.offer(given.text, items[0]);
    find("article-words").hidden = !explain;
    if (explain) await words(given, mine);
  } catch (error) {
    if (mine === latest) problem(error.message);
  } finally {
    if (mine === latest) form.removeAttribute("aria-busy");
  }
}

function problem(words, ofText = false) {
  say(find("article-problem"), words);
  if (ofText) text.setAttribute("aria-invalid", "true");
  else text.removeAttribute("aria-invalid");
  if (words) find("article-answer").hidden = true;
}

function show(item, taken) {
  const shares = Object.entries(item.probabilities);
  const time = taken < 10 ? taken.toFixed(1) : taken.toFixed(0);
  const windows = item.windows > 1 ? `, in ${item.windows} windows` : "";
  const doubt = item.unsure ? ", not sure" : "";
  const how = `answered by ${item.answered_by} in ${time} ms${windows}`;
  find("article-label").textContent = item.label;
  find("article-unsure").hidden = !item.unsure;
  find("article-how").textContent = how;
  bars(find("article-bars"), shares.map(([name, share]) => ({ name, share, value: percent(share) })));
  members(item.members ?? {}, shares.map(([name]) => name));
  find("article-answer").hidden = false;
  say(find("article-said"), `${item.label}${doubt}, ${percent(shares[0][1])}, ${how}.`);
}

function members(said, labels) {
  const names = Object.keys(said);
  find("article-members").hidden = names.length === 0;
  const heads = labels.map((name) => make("th", { scope: "col", className: "number" }, name));
  const head = make("tr", {}, make("th", { scope: "col" }, "Member"), ...heads);
  const rows = names.map((name) => {
    const most = Math.max(...Object.values(said[name]));
    const cells = labels.map((label) =>
      make("td", { className: said[name][label] === most ? "number most-of" : "number" }, percent(said[name][label])),
    );
    return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
  });
  const table = find("article-members").querySelector("table");
  table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
}

async function words(given, mine) {
  find("article-marked").textContent = given.text;
  find("article-words-most").replaceChildren();
  say(find("article-words-said"), "Asking what the answer is without each of them …");
  const { items } = await ask(path("classify"), { ...given, explain: true });
  if (mine !== latest) return;
  const found = items[0].words ?? [];
  const most = Math.max(LEAST, ...found.map((one) => Math.abs(one.drop)));
  const telling = found.filter((one) => Math.abs(one.drop) >= Math.max(LEAST, most / 10));
  mark([...given.text], telling, most);
  const ordered = telling.toSorted((one, other) => Math.abs(other.drop) - Math.abs(one.drop)).slice(0, MOST);
  find("article-words-most").replaceChildren(
    ...ordered.map((one) =>
      make("li", {}, make("span", { className: one.drop > 0 ? "for" : "against" }, short(one.text)), ` ${points(one.drop)}`),
    ),
  );
  const label = items[0].label;
  say(
    find("article-words-said"),
    telling.length
      ? `What ${label} loses, in points of probability, without that word alone. Dashed: it gains.`
      : `No word alone mattered: without any of them, it is ${label} just as surely.`,
  );
}

/** Show the text, its telling parts marked; their places count characters, not UTF-16 units. */
function mark(characters, telling, most) {
  const parts = [];
  let at = 0;
  for (const { start, end, drop } of telling) {
    const level = Math.ceil((LEVELS * Math.abs(drop)) / most);
    const side = drop > 0 ? "for" : "against";
    parts.push(characters.slice(at, start).join(""));
    parts.push(make("mark", { className: `${side} level-${level}`, title: points(drop) }, characters.slice(start, end).join("")));
    at = end;
  }
  find("article-marked").replaceChildren(...parts, characters.slice(at).join(""));
}

const points = (drop) => `${drop > 0 ? "+" : "−"}${(100 * Math.abs(drop)).toFixed(1)}`;
const short = (words) => (words.length > 40 ? `${words.slice(0, 40)}…` : words);
