// The models that are served, and which of them is asked: a choice only where there are several.

import { ask } from "/page/api.js";
import { find, make } from "/page/dom.js";

const select = find("models-select");
let served = [];

/** Read which there are, and offer them. Throws Problem. */
export async function read() {
  const before = select.value;
  ({ models: served } = await ask("/v1/models"));
  select.replaceChildren(...served.map(({ name }) => make("option", { value: name }, name)));
  const first = served.find(({ name }) => name === before) ?? served.find((model) => model.default) ?? served[0];
  select.value = first?.name ?? "";
  find("models").hidden = served.length < 2;
  tell();
}

select.addEventListener("change", tell);

/** The path of a route for the chosen model; the only one needs no name. */
export const path = (route) => (served.length < 2 ? `/v1/${route}` : `/v1/models/${encodeURIComponent(select.value)}/${route}`);

function tell() {
  const labels = served.find(({ name }) => name === select.value)?.labels ?? [];
  find("model").textContent = `Which label does a text have? ${labels.join(", ")}.`;
}
