// An observation tried by hand.

import { call } from "./api.js";
import { byId, element, figure, fill, pairs } from "./elements.js";

const TYPED_BY_HAND = 64;

let described = null;

const label = (action) => described.actions.labels?.[action] ?? `action ${action}`;

function filled(shape, value) {
  return shape.length ? Array.from({ length: shape[0] }, () => filled(shape.slice(1), value)) : value;
}

/** Offer an observation of the policy's shape. */
export function prepareAttempt(policy) {
  if (described?.policy === policy.policy) return;
  described = policy;
  const { shape, dtype } = policy.observation;
  const size = shape.reduce((product, axis) => product * axis, 1);
  byId("observation").value = size <= TYPED_BY_HAND ? JSON.stringify(filled(shape, 0)) : "0";
  const hint = size <= TYPED_BY_HAND ? "" : " One number fills all of it.";
  byId("observation-hint").textContent = `JSON of shape [${shape.join(", ")}], ${dtype}.${hint}`;
  byId("mask").hidden = !policy.actions.masked;
  fill("legal", ...Array.from({ length: policy.actions.masked ? policy.actions.count : 0 }, (_, action) =>
    element("label", {}, element("input", { type: "checkbox", checked: "" }), ` ${action}, ${label(action)}`),
  ));
  fill("answer");
}

function parsed() {
  const value = JSON.parse(byId("observation").value);
  return typeof value === "number" ? filled(described.observation.shape, value) : value;
}

async function ask(event) {
  event.preventDefault();
  if (!described) return;
  let observation;
  try {
    observation = parsed();
  } catch {
    fill("answer", element("p", { class: "fault" }, "This is not JSON: numbers in square brackets, separated by commas."));
    return;
  }
  try {
    const body = { policy: described.policy, observations: [observation], include_q_values: true };
    if (described.actions.masked) {
      body.action_masks = [[...byId("legal").querySelectorAll("input")].map((box) => box.checked)];
    }
    showAnswer(await call("v1/actions", body));
  } catch (error) {
    const said = error.status ? error.message : "The server could not be reached.";
    fill("answer", element("p", { class: "fault" }, said));
  }
}

function showAnswer(told) {
  const [action] = told.actions;
  const by = told.answered_by[0];
  const q_values = told.q_values?.[0];
  const who = by.source === "model" ? `version ${by.version} (${by.variant})` : `the heuristic: ${String(by.reason).replaceAll("_", " ")}`;
  const children = [
    element("p", { class: "sentence" }, "Action ", element("strong", {}, `${action}, ${label(action)}`)),
    pairs([
      ["Answered by", who],
      ["Propensity", figure(told.propensities[0])],
      ["Decision", told.decision_id],
    ]),
  ];
  if (q_values) children.push(qTable(q_values, action));
  else children.push(element("p", { class: "faint" }, "The heuristic has no Q-values."));
  fill("answer", element("div", { class: "result" }, ...children));
}

function qTable(q_values, action) {
  const least = Math.min(...q_values);
  const spread = Math.max(...q_values) - least || 1;
  const rows = q_values.map((value, index) =>
    element(
      "tr",
      { "aria-current": index === action ? "true" : null },
      element("th", { scope: "row" }, label(index)),
      element("td", {}, String(Number(value.toPrecision(5)))),
      // From the least Q-value up: only differences choose.
      element("td", {}, element("progress", { max: 1, value: (value - least) / spread, "aria-hidden": "true" })),
    ),
  );
  const head = ["Action", "Q-value", "Above the least"].map((name) => element("th", { scope: "col" }, name));
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
}

export function listenForAttempts() {
  byId("try").addEventListener("submit", ask);
}
