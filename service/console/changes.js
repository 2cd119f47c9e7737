// What an operator changes: each call is confirmed with a reason, and refused if stable has moved.

import { call } from "./api.js";
import { byId, element, fill } from "./elements.js";

const WORDS = {
  promote: ["Promote version {version}", "New episodes are answered by version {version}."],
  canary: ["Start a canary of version {version}", "It gets a small share of new episodes and is judged by their returns."],
  shadow: ["Shadow with version {version}", "It sees a share of the traffic and answers none of it. A share of 0 ends it."],
  rollback: ["Roll back to version {version}", "Version {version} answers everything at once, open episodes too."],
  abort: ["Abort the trial", "The trial and the shadow end; stable answers everything."],
  pause: ["Pause the trial", "The share is held. The judge may still roll back."],
  resume: ["Resume the trial", "The trial goes on."],
  pin: ["Pin to the heuristic", "The heuristic answers everything until you unpin."],
  unpin: ["Unpin", "The model answers again."],
  freeze: ["Freeze", "No promotion, ramp or canary until you unfreeze. A rollback is always possible."],
  unfreeze: ["Unfreeze", "Promotions are possible again."],
};

/** Buttons that take each other's place. */
const TWINS = { resume: "pause", unpin: "pin", unfreeze: "freeze" };

let asked = null;
let onChanged = () => {};
let askForKey = () => {};

function words(verb, version) {
  return WORDS[verb].map((text) => text.replaceAll("{version}", String(version)));
}

/** A button that opens the confirmation of a call. */
function button(verb, policy, state, version = null, fields = {}) {
  const [title] = words(verb, version);
  const focus = version === null ? (TWINS[verb] ?? verb) : `${verb}-${version}`;
  const click = () => open({ verb, policy, version, fields, stable: state.stable });
  return element("button", { type: "button", "data-focus": focus, click }, title);
}

/** What may be done to a policy as it stands. */
export function policyActions(policy, state) {
  const found = [];
  const isOpen = state.rollout.outcome === "open";
  if (isOpen) found.push(button(state.rollout.paused ? "resume" : "pause", policy, state));
  if (isOpen || state.shadow !== null) found.push(button("abort", policy, state));
  found.push(button(state.pinned ? "unpin" : "pin", policy, state));
  found.push(button(state.frozen ? "unfreeze" : "freeze", policy, state));
  return found;
}

/** What may be done with a version as things stand. */
export function versionActions(policy, state, version) {
  if (version === state.stable) return [];
  const onTrial = state.rollout.outcome === "open" && state.rollout.kind === "canary";
  const found = [];
  if (!state.frozen && (!onTrial || state.canary === version)) {
    found.push(button("promote", policy, state, version, state.stable === null ? { first: true } : {}));
  }
  if (state.stable !== null && !onTrial && !state.frozen) found.push(button("canary", policy, state, version));
  if (state.stable !== null && state.canary !== version) found.push(button("shadow", policy, state, version));
  if (state.stable !== null && (version < state.stable || version === state.previous)) found.push(button("rollback", policy, state, version));
  return found;
}

function open(change) {
  // One key for all tries of one confirmation: sent again, it changes nothing more.
  asked = { ...change, key: crypto.randomUUID?.() ?? `console-${Date.now()}-${Math.random()}` };
  const [title, effect] = words(change.verb, change.version);
  byId("change-title").textContent = `${title}?`;
  byId("change-effect").textContent = `${change.policy}: ${effect}`;
  byId("change-send").textContent = title;
  byId("change-send").disabled = false;
  byId("change-why").value = "";
  byId("change-share-label").hidden = change.verb !== "shadow";
  fill("change-fault");
  fill("change-prospect");
  if (change.verb === "canary") showProspect(asked);
  byId("change-dialog").showModal();
  byId("change-why").focus();
}

/** What a canary will take, where the key may ask. */
async function showProspect(change) {
  const path = `v1/policies/${encodeURIComponent(change.policy)}/canary`;
  const body = { version: change.version, why: "to see what it takes", dry_run: true };
  const told = await call(path, body).catch(() => null);
  // By now something else may be asked.
  if (told && asked === change) fill("change-prospect", ...told.sentences.map((each) => element("li", {}, each)));
}

async function send(event) {
  event.preventDefault();
  const { verb, policy, version, fields, stable, key } = asked;
  const body = { why: byId("change-why").value.trim(), key, ...fields };
  if (!body.why) {
    fill("change-fault", "Say why: the ledger keeps it.");
    return;
  }
  if (stable !== null) body.expected_stable = stable;
  if (verb === "rollback") body.to = version;
  else if (version !== null) body.version = version;
  if (verb === "shadow") body.share = Number(byId("change-share").value);
  byId("change-send").disabled = true;
  fill("change-fault", "");
  try {
    const done = await call(`v1/policies/${encodeURIComponent(policy)}/${verb}`, body);
    byId("change-dialog").close();
    fill("done", `${byId("change-send").textContent}: written to the ledger. ${followers(done.replicas)}`);
    onChanged();
  } catch (error) {
    const isForKey = error.status === 401 || error.status === 403;
    const other = isForKey ? element("button", { type: "button", click: askForKey }, "Enter another key") : null;
    fill("change-fault", `${faultOf(error)} `, other);
  } finally {
    byId("change-send").disabled = false;
  }
}

function followers({ acknowledged, not_acknowledged: missing }) {
  const followed = `${acknowledged.length} ${acknowledged.length === 1 ? "replica follows" : "replicas follow"} it`;
  return missing.length ? `${followed}; not yet: ${missing.join(", ")}.` : `${followed}.`;
}

function faultOf(error) {
  if (error.status) return `${error.message}.`;
  return "The server could not be reached. Nothing may have changed: try again, it is safe to.";
}

/** `changed` is called after a change; `wantKey`, where another key is needed. */
export function prepareChanges(changed, wantKey) {
  onChanged = changed;
  askForKey = wantKey;
  byId("change-form").addEventListener("submit", send);
  byId("change-cancel").addEventListener("click", () => byId("change-dialog").close());
}
