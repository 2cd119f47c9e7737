// What the service says of its calls, as a page from which they can be sent.

import { send, storedKey, storeKey } from "./api.js";
import { byId, element, fill } from "./elements.js";

const STREAM = "text/event-stream";
const LONGEST_MILLISECONDS = 120_000;

let schemas = {};

function resolve(schema) {
  return schema.$ref ? schemas[schema.$ref.split("/").pop()] : schema;
}

/** What a field may be, in a few words. */
function kindOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.filter((each) => each.type !== "null").map(kindOf).join(" or ");
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(", ");
  if (schema.type === "array") return `list of ${kindOf(schema.items ?? {})}`;
  return schema.type ?? "any";
}

function bodyOf(told) {
  return told.requestBody?.content["application/json"] ?? null;
}

function fieldTable(told) {
  const schema = resolve(bodyOf(told)?.schema ?? {});
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) =>
    element(
      "tr",
      {},
      element("td", {}, element("code", {}, name), (schema.required ?? []).includes(name) ? " (required)" : ""),
      element("td", {}, kindOf(field)),
      element("td", {}, field.description ?? ""),
    ),
  );
  return rows.length ? element("table", {}, element("tbody", {}, ...rows)) : null;
}

/** A body to begin with: the example, or what is required. */
function exampleOf(body) {
  if (body.example) return body.example;
  const schema = resolve(body.schema);
  const empty = { integer: 1, number: 1, boolean: false, string: "", array: [], object: {} };
  return Object.fromEntries(
    (schema.required ?? []).map((name) => [name, empty[schema.properties[name].type] ?? null]),
  );
}

/** The path with what the reader entered; a query where there is one. */
function addressOf(path, inputs) {
  const query = new URLSearchParams();
  let address = path.slice(1);
  for (const [parameter, input] of inputs) {
    if (parameter.in === "path") address = address.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value) query.set(parameter.name, input.value);
  }
  return query.size ? `${address}?${query}` : address;
}

function formOf(path, method, told) {
  const parameters = (told.parameters ?? []).filter((each) => each.in !== "header");
  const inputs = parameters.map((each) => [each, element("input", { required: each.required ? "" : null })]);
  const labels = inputs.map(([each, input]) => element("label", {}, `${each.name} `, input));
  const body = bodyOf(told);
  const text = body && element("textarea", { rows: 5, spellcheck: "false", "aria-label": "Body" });
  if (text) text.value = JSON.stringify(exampleOf(body), null, 2);
  const answer = element("pre", { role: "status", hidden: "" });
  const submit = async (event) => {
    event.preventDefault();
    answer.hidden = false;
    answer.textContent = "…";
    try {
      const limit = AbortSignal.timeout(LONGEST_MILLISECONDS);
      const response = await send(addressOf(path, inputs), method, text?.value, limit);
      answer.textContent = `${response.status}\n${await response.text()}`;
    } catch (error) {
      answer.textContent = error.message;
    }
  };
  const button = element("button", { type: "submit" }, "Send");
  return element("form", { submit }, ...labels, text, element("div", { class: "actions" }, button), answer);
}

function callOf(path, method, told) {
  const streams = STREAM in (told.responses["200"]?.content ?? {});
  return element(
    "details",
    { class: "version", id: told.operationId },
    element("summary", {}, element("code", {}, `${method.toUpperCase()} ${path}`), ` ${told.description ?? ""}`),
    fieldTable(told),
    streams ? null : formOf(path, method, told),
  );
}

function show(document) {
  schemas = document.components.schemas;
  const groups = new Map();
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, told] of Object.entries(methods)) {
      const tag = told.tags[0];
      if (!groups.has(tag)) groups.set(tag, [element("h2", {}, tag)]);
      groups.get(tag).push(callOf(path, method, told));
    }
  }
  fill("calls", ...[...groups.values()].flat());
}

byId("key").value = storedKey() ?? "";
byId("key").addEventListener("change", () => storeKey(byId("key").value.trim()));
show(await (await send("openapi.json", "get")).json());
