// Making and filling elements. Whatever is shown goes in as text: no HTML is ever parsed.

export const find = (id) => document.getElementById(id);

export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** Show a problem's or a status's words, or hide their place where there are none. */
export function say(element, words) {
  element.textContent = words;
  if (element.getAttribute("role") === "alert") element.hidden = !words;
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;
export const count = (number) => number.toLocaleString("en");

/** Fill a list with bars; each is {name, share in [0, 1], value: its words}, the first one the strongest. */
export function bars(list, given) {
  list.replaceChildren(
    ...given.map(({ name, share, value }) => {
      const fill = make("span", { className: "fill" });
      fill.style.inlineSize = `${100 * share}%`;
      const track = make("span", { className: "track", ariaHidden: "true" }, fill);
      return make(
        "li",
        {},
        make("span", { className: "name" }, name),
        track,
        make("span", { className: "value" }, value),
      );
    }),
  );
}

export const quality = (form) => new FormData(form).get("quality");
