// Starts the page: the key first where one is asked for, then what needs it.

import { key } from "/page/api.js";
import * as article from "/page/article.js";
import { find, say } from "/page/dom.js";
import * as file from "/page/file.js";
import * as live from "/page/live.js";
import * as models from "/page/models.js";

article.start();
file.start();
live.start();

const field = find("key-value");
const said = find("key-said");
find("key").hidden = !key.asked;
find("key").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(field.value.trim());
  field.value = "";
  open();
});
find("key-forget").addEventListener("click", () => {
  key.forget();
  field.value = "";
  live.stop();
  say(said, "Forgotten.");
  field.focus();
});

/** Read the models, which shows whether the key is good, and begin to watch. */
async function open() {
  try {
    await models.read();
    if (key.asked) say(said, "The key is good.");
    live.watch();
  } catch (error) {
    live.stop();
    if (error.status === 401) key.forget();
    say(key.asked ? said : find("live-problem"), error.message);
  }
}

if (!key.asked || key.get()) open();
else say(said, "This gateway asks for a key: `newsdesk keys create NAME` makes one.");
