// The gateway's routes, with the caller's key where one is asked for.

const STORED = "newsdesk-key";
const asks = document.body.dataset.asksForKey === "yes";

export const key = {
  asked: asks,
  get: () => (asks ? (sessionStorage.getItem(STORED) ?? "") : ""),
  set: (value) => sessionStorage.setItem(STORED, value),
  forget: () => sessionStorage.removeItem(STORED),
};

/** What went wrong, in words for the reader. */
export class Problem extends Error {
  constructor(title, detail, status = 0) {
    super(`${title}: ${detail}`);
    this.status = status;
  }

  static of({ title, detail, status }) {
    const help = status === 401 && asks ? " Enter a valid one under “API key”." : "";
    return new Problem(title, detail + help, status);
  }
}

/** Send a request; the answer is a Response with a good status. Throws Problem, and AbortError when it is stopped. */
export async function send(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key.get()) headers.set("Authorization", `Bearer ${key.get()}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("No answer", "the gateway cannot be reached. Is it running?");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw Problem.of({
    title: problem.title ?? `Status ${response.status}`,
    detail: problem.detail ?? "the gateway says no more.",
    status: response.status,
  });
}

export async function ask(path, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await send(path, body === undefined ? {} : options)).json();
}

/** Yield the lines of a response's body as they come. Throws Problem where the connection breaks. */
export async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      yield* parts;
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The connection broke", "the rest of the answer did not come.");
  } finally {
    await reader.cancel().catch(() => {});
  }
  if (rest) yield rest;
}
