// "Not right?": the right label of the text that was just answered, kept by the gateway for the next build.

import { ask } from "/page/api.js";
import { find, make, say } from "/page/dom.js";
import { path } from "/page/models.js";

const form = find("correction");
const select = find("correction-label");
let answered = null;

export function start() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(answered);
  });
}

/** Offer to correct an answer, where the gateway takes feedback. It belongs to the model that answered. */
export function offer(text, item) {
  const others = Object.keys(item.probabilities).filter((label) => label !== item.label);
  answered = { where: path("feedback"), correction: { text, predicted: item.label } };
  select.replaceChildren(...others.map((label) => make("option", { value: label }, label)));
  say(find("correction-said"), "");
  say(find("correction-problem"), "");
  form.hidden = document.body.dataset.feedback !== "yes" || others.length === 0;
}

async function send({ where, correction }) {
  const label = select.value;
  say(find("correction-problem"), "");
  form.setAttribute("aria-busy", "true");
  try {
    await ask(where, { ...correction, label });
    if (answered.correction === correction) say(find("correction-said"), `Kept: it is ${label}. Thank you.`);
  } catch (error) {
    if (answered.correction === correction) say(find("correction-problem"), error.message);
  } finally {
    form.removeAttribute("aria-busy");
  }
}
