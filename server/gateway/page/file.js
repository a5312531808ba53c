// Many texts: a CSV goes up whole, and its answers come down a line each. However long it is, the table stays
// short, and what is for the download is handed to the browser in large blocks.

import { Problem, ask, lines, send } from "/page/api.js";
import { bars, count, find, make, percent, quality, say } from "/page/dom.js";
import { path } from "/page/models.js";
import { Records, dialect, guess, line } from "/page/records.js";

const ROWS = 200;
const SHOWN_CHARACTERS = 160;
const BLOCK = 2 ** 20;
const REFRESH_MS = 250;
const ADDED = ["label", "probability", "answered_by", "windows", "error", "unsure"];

const form = find("file").querySelector("form");
const pasted = find("file-paste");
const input = find("file-input");
let chosen = null; // {name, blob, header}
let stopping = null;
let run = 0;
let reading = Promise.resolve();
let choices = 0;

export function start() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    classify();
  });
  input.addEventListener("change", () => input.files[0] && choose(input.files[0]));
  pasted.addEventListener("input", () => choose(pasted.value.trim() ? new File([pasted.value], "pasted.csv") : null, true));
  find("file-stop").addEventListener("click", () => stopping?.abort());
  const zone = find("file");
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    find("file-drop").classList.add("over");
  });
  zone.addEventListener("dragleave", () => find("file-drop").classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    find("file-drop").classList.remove("over");
    if (event.dataTransfer.files[0]) choose(event.dataTransfer.files[0]);
  });
}

/** Take a file, read its column names, and offer them. */
function choose(file, isPasted = false) {
  if (!isPasted) pasted.value = "";
  else input.value = "";
  say(find("file-problem"), "");
  chosen = null;
  const choice = ++choices;
  reading = (async () => {
    const { delimiter, said } = file ? await dialect(file) : {};
    const records = file && new Records(file, delimiter);
    if (said) await records.next();
    const header = file && ((await records.next()) ?? []);
    await records?.close();
    if (choice !== choices) return; // more was typed meanwhile: what is read late must not stand for it
    chosen = file && { name: file.name, blob: file, header, delimiter };
    offer(header ?? []);
    say(find("file-chosen"), file && !isPasted ? `${file.name}, ${size(file.size)}` : "");
  })();
}

function offer(header) {
  const offered = [...form.querySelectorAll("[name=column]")].map((box) => box.value);
  // Rows still being typed must not undo what was ticked meanwhile.
  if (header.length && JSON.stringify(offered) === JSON.stringify(header)) return;
  const read = guess(header);
  find("file-columns").hidden = header.length < 2;
  find("file-columns")
    .querySelector("div")
    .replaceChildren(
      ...header.map((name) => {
        const box = make("input", { type: "checkbox", name: "column", value: name, checked: read.includes(name) });
        return make("label", { className: "check" }, box, ` ${name}`);
      }),
    );
}

async function classify() {
  await reading;
  say(find("file-problem"), "");
  if (!chosen) return say(find("file-problem"), "No rows: choose a CSV file, drop one, or paste its rows.");
  const columns = new FormData(form).getAll("column");
  if (!columns.length) return say(find("file-problem"), "No column is read: tick at least one.");
  const mine = ++run;
  stopping?.abort();
  stopping = new AbortController();
  running(true);
  let table = null;
  try {
    table = new Table(chosen, columns, (await ask(path("labels"))).labels);
    const query = new URLSearchParams([...columns.map((one) => ["column", one]), ["quality", quality(form)], ["delimiter", chosen.delimiter]]);
    const options = { method: "POST", headers: { "Content-Type": "text/csv" }, body: chosen.blob, signal: stopping.signal };
    const response = await send(`${path("classify/file")}?${query}`, options);
    for await (const one of lines(response)) {
      const answer = JSON.parse(one);
      if (answer.problem) throw Problem.of(answer.problem);
      await table.add(answer);
    }
    table.end("");
  } catch (error) {
    if (mine !== run) return;
    table?.end(error.name === "AbortError" ? " Stopped." : "");
    if (error.name !== "AbortError") say(find("file-problem"), error.message);
  } finally {
    if (mine === run) running(false);
  }
}

function running(is) {
  find("file-stop").hidden = find("file-progress").hidden = !is;
  form.setAttribute("aria-busy", is);
  if (is) {
    find("file-download").hidden = find("file-answers").hidden = true;
    find("file-progress").value = 0;
    say(find("file-said"), "Sending …");
  }
}

/** The answers of one file: the first of them in the table, their distribution, and all of them for the download. */
class Table {
  #records;
  #next = [];
  #columns;
  #name;
  #labels;
  #counts = new Map();
  #answered = 0;
  #refused = 0;
  #shown = [];
  #blocks = [];
  #held = "";
  #header;
  #began = performance.now();
  #refreshed = 0;

  constructor({ name, blob, header, delimiter }, columns, labels) {
    this.#labels = labels;
    this.#records = new Records(blob, delimiter);
    this.#header = header;
    this.#columns = columns.map((one) => header.lastIndexOf(one));
    this.#name = name.replace(/\.csv$/i, "");
    find("file-rows").querySelector("tbody").replaceChildren();
  }

  async add(answer) {
    const fields = await this.#fields(answer);
    if (answer.error === undefined) this.#take(answer);
    else this.#refused += 1;
    if (answer.index < ROWS) this.#shown.push(this.#row(answer, fields));
    this.#keep(answer, fields);
    if (performance.now() - this.#refreshed > REFRESH_MS) {
      this.#refresh();
      await new Promise((later) => setTimeout(later)); // keys and clicks come first
    }
  }

  end(remark) {
    this.#records.close();
    this.#refresh();
    const total = this.#answered + this.#refused;
    const seconds = ((performance.now() - this.#began) / 1000).toFixed(1);
    const refused = this.#refused ? `, ${count(this.#refused)} refused` : "";
    const more = total > ROWS ? ` The table shows the first ${ROWS}; the download has all.` : "";
    say(find("file-said"), `${count(this.#answered)} answered${refused}, in ${seconds} s.${more}${remark}`);
    if (total) this.#offer();
  }

  /** Return the cells of the row that begins in the answer's line: none where the gateway took a record apart. */
  async #fields({ line }) {
    while (this.#next && (this.#next.line ?? 0) < line) this.#next = await this.#records.next();
    if (this.#next?.line !== line) return [];
    return this.#next;
  }

  #take(answer) {
    this.#answered += 1;
    this.#counts.set(answer.label, (this.#counts.get(answer.label) ?? 0) + 1);
  }

  #row(answer, fields) {
    const read = this.#columns.map((at) => fields[at] ?? "").join(" ");
    const text = read.length > SHOWN_CHARACTERS ? `${read.slice(0, SHOWN_CHARACTERS)}…` : read;
    const row = make("tr", {}, make("td", { className: "number" }, String(answer.index + 1)), make("td", {}, text));
    if (answer.error !== undefined) {
      row.append(make("td", { colSpan: 3, className: "refused" }, answer.error));
    } else {
      const share = answer.probabilities[answer.label];
      row.append(make("td", {}, answer.unsure ? `${answer.label} (not sure)` : answer.label), make("td", { className: "number" }, percent(share)));
      row.append(make("td", {}, answer.answered_by));
    }
    return row;
  }

  #keep(answer, fields) {
    const padded = this.#header.map((_, at) => fields[at] ?? "");
    const { label = "", probabilities = {}, answered_by = "", windows = "", error = "", unsure = "" } = answer;
    const added = [label, probabilities[label] ?? "", answered_by, windows, error, unsure];
    this.#held += line([...padded, ...added, ...this.#labels.map((one) => probabilities[one] ?? "")].map(String));
    if (this.#held.length > BLOCK) {
      this.#blocks.push(new Blob([this.#held]));
      this.#held = "";
    }
  }

  #refresh() {
    this.#refreshed = performance.now();
    find("file-rows").querySelector("tbody").append(...this.#shown.splice(0));
    const ordered = [...this.#counts].sort((one, other) => other[1] - one[1]);
    const all = this.#answered || 1;
    bars(
      find("file-bars"),
      ordered.map(([name, n]) => ({ name, share: n / all, value: `${count(n)} (${percent(n / all)})` })),
    );
    find("file-answers").hidden = this.#answered + this.#refused === 0;
    find("file-progress").value = this.#records.share;
    find("file-progress").textContent = count(this.#answered);
  }

  #offer() {
    const names = [...this.#header, ...[...ADDED, ...this.#labels].map((name) => `newsdesk_${name}`)];
    const whole = new Blob(["\ufeff", line(names), ...this.#blocks, this.#held], { type: "text/csv" });
    const link = find("file-download");
    if (link.href) URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(whole);
    link.download = `${this.#name}-newsdesk.csv`;
    link.hidden = false;
  }
}

const size = (bytes) => (bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`);
