// Calls of this server, with the key that the reader entered. Nothing is sent elsewhere.

const KEY = "dqn-key";
const SILENT_MILLISECONDS = 5000;

/** An answer that is not 2xx: `status`, `code`, and the server's sentence. */
export class Refusal extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function storedKey() {
  return sessionStorage.getItem(KEY);
}

export function storeKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

function headers() {
  const key = storedKey();
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function refusalOf(response) {
  const told = await response.json().catch(() => ({}));
  return new Refusal(response.status, told.code ?? "unknown", told.error ?? response.statusText);
}

/** Any call, and its answer as it is. `body` is text. */
export function send(path, method, body, signal) {
  const options = { method: method.toUpperCase(), headers: headers(), cache: "no-store", signal };
  if (body !== undefined && body !== null) {
    options.body = body;
    options.headers["content-type"] = "application/json";
  }
  return fetch(path, options);
}

/** GET, or POST where there is a body. */
export async function call(path, body) {
  const response = await (body === undefined ? send(path, "get") : send(path, "post", JSON.stringify(body)));
  if (!response.ok) throw await refusalOf(response);
  return response.json();
}

/** The whole events in `text`, and what is left of one that is not whole. */
export function parseEvents(text) {
  const blocks = text.split("\n\n");
  const rest = blocks.pop();
  const events = blocks.map((block) => {
    const fields = Object.fromEntries(
      block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]),
    );
    return { kind: fields.event, data: JSON.parse(fields.data) };
  });
  return [events, rest];
}

/**
 * Listen until the stream ends; EventSource could not send the key.
 * Throws a Refusal where the server refuses, another Error where the connection is gone.
 */
export async function listen(onSnapshot) {
  const abort = new AbortController();
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(new Error("the server is silent")), SILENT_MILLISECONDS);
  };
  heard();
  try {
    const response = await fetch("v1/events", { headers: headers(), cache: "no-store", signal: abort.signal });
    if (!response.ok) throw await refusalOf(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Error("the connection ended");
      heard();
      let events;
      [events, rest] = parseEvents(rest + value);
      for (const { kind, data } of events) {
        if (kind === "ended") throw new Refusal(data.code === "not_ready" ? 503 : 401, data.code, data.error);
        onSnapshot(data);
      }
    }
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}
