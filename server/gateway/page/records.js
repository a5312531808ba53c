// CSV as the gateway reads it: RFC 4180, UTF-8, a line of names, empty lines left out.

const FORMULA = /^\s*[=+\-@＝＋－＠]/;
const NUMBER = /^[+-]?\d+(\.\d+)?([eE][+-]?\d+)?$/;

/** The records of a Blob, one after the other, each a list of fields, and its `line`; read a block at a time. */
export class Records {
  #reader;
  #text = "";
  #at = 0;
  #ended = false;
  #bytes = 0;
  #size;
  #delimiter;
  #line = 1;

  constructor(blob, delimiter = ",") {
    this.#delimiter = delimiter;
    this.#size = blob.size;
    const counting = new TransformStream({
      transform: (block, out) => {
        this.#bytes += block.byteLength;
        out.enqueue(block);
      },
    });
    this.#reader = blob.stream().pipeThrough(counting).pipeThrough(new TextDecoderStream()).getReader();
  }

  /** How much of the Blob has been read, from 0 to 1. */
  get share() {
    return this.#size ? this.#bytes / this.#size : 1;
  }

  /** Return the next record, or null behind the last one. */
  async next() {
    while (true) {
      const found = this.#cut();
      if (found === undefined) {
        if (this.#ended) return null;
        await this.#more();
      } else if (found.length > 1 || found[0] !== "" || found.quoted) {
        return found;
      }
    }
  }

  async close() {
    await this.#reader.cancel();
  }

  async #more() {
    const { value, done } = await this.#reader.read();
    this.#text = this.#text.slice(this.#at) + (value ?? "");
    this.#at = 0;
    this.#ended = done;
  }

  #cut() {
    const start = this.#at;
    const fields = this.#parse();
    if (fields === undefined) return undefined;
    fields.line = this.#line;
    const read = this.#text.slice(start, this.#at);
    this.#line += (read.match(read.includes("\n") ? /\n/g : /\r/g) ?? []).length;
    return fields;
  }

  /** Return the record at the start of what is held, or undefined where its end is not held yet. */
  #parse() {
    const text = this.#text;
    const fields = [];
    let at = this.#at;
    if (at >= text.length) return undefined;
    while (true) {
      let field = "";
      if (text[at] === '"') {
        fields.quoted = true;
        at += 1;
        while (true) {
          const end = text.indexOf('"', at);
          if (end < 0 || (end + 1 >= text.length && !this.#ended)) {
            if (!this.#ended) return undefined;
            fields.push(field + text.slice(at)); // the last quote never closes: what there is, as the gateway has it
            this.#at = text.length;
            return fields;
          }
          field += text.slice(at, end);
          at = end + 1;
          if (text[at] !== '"') break;
          field += '"';
          at += 1;
        }
      }
      let end = at;
      while (end < text.length && text[end] !== this.#delimiter && text[end] !== "\n" && text[end] !== "\r") end += 1;
      // A carriage return at the very end may be half of a line's end.
      if (end >= text.length - 1 && !this.#ended && text[end] !== "\n" && text[end] !== this.#delimiter) return undefined;
      fields.push(field + text.slice(at, end));
      if (text[end] === this.#delimiter) {
        at = end + 1;
        if (at >= text.length && !this.#ended) return undefined;
        continue;
      }
      this.#at = end + (text[end] === "\r" && text[end + 1] === "\n" ? 2 : 1);
      return fields;
    }
  }
}

/** Return one line of CSV. What a spreadsheet would compute, a formula of a stranger's, stays text; numbers stay numbers. */
export function line(fields) {
  const quoted = (field) => (/[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field);
  return fields.map((field) => quoted(FORMULA.test(field) && !NUMBER.test(field) ? `'${field}` : field)).join(",") + "\r\n";
}

/** Return what parts the cells of a Blob's records, and whether its first line does nothing but say so, as Excel's does. */
export async function dialect(blob) {
  const [first] = (await blob.slice(0, 2 ** 16).text()).split(/[\r\n]/, 1);
  const said = /^"?sep=(.)"?\s*$/i.exec(first);
  if (said) return { delimiter: said[1], said: true };
  const names = first.replace(/"[^"]*"/g, "");
  const times = (delimiter) => names.split(delimiter).length;
  return { delimiter: [",", ";", "\t", "|"].reduce((one, other) => (times(other) > times(one) ? other : one)), said: false };
}

/** Return which columns probably hold the text. */
export function guess(names) {
  if (names.includes("text")) return ["text"];
  const known = names.filter((name) => ["title", "headline", "description", "body", "article"].includes(name.toLowerCase()));
  return known.length ? known : names.slice(0, 1);
}
