// The page: which policy is shown, the connection, the key.

import { call, listen, storedKey, storeKey } from "./api.js";
import { listenForAttempts, prepareAttempt } from "./attempt.js";
import { policyActions, prepareChanges, versionActions } from "./changes.js";
import { byId, element, fill, keepFocus, moment } from "./elements.js";
import { fetchRollout, showLedger, showMoreOfLedger, showTrial, showVersions } from "./rollout.js";
import { buildTiles, setTrialReturns, showRetraining, showSignals } from "./signals.js";

const LONGEST_PAUSE_SECONDS = 15;
// A judge that is away writes nothing, and the verdict says so all the same.
const OLDEST_SECONDS = 15;
const CHOSEN = "dqn-policy";

let policy = null;
let snapshot = null;
let shownPosition = null;
let shownAt = 0;
let refreshing = false;
/** Ends the pause before the next try to connect. */
let hurry = () => {};

function say(state, text) {
  const holder = byId("connection");
  if (holder.textContent === text) return;
  holder.dataset.state = state;
  holder.textContent = text;
  document.body.classList.toggle("stale", state !== "live");
}

function onSnapshot(told) {
  snapshot = told;
  say("live", "live");
  showPolicies(Object.keys(told.policies));
  showAlerts(told.degraded);
  if (policy === null) return;
  showSignals(told, policy);
  if (shownPosition !== told.ledger_position || told.at - shownAt > OLDEST_SECONDS) refresh();
}

function showAlerts(sentences) {
  const shown = [...byId("alerts").children].map((each) => each.textContent);
  // A live region that is written anew is read aloud anew.
  if (JSON.stringify(shown) === JSON.stringify(sentences)) return;
  fill("alerts", ...sentences.map((sentence) => element("p", {}, sentence)));
}

function showPolicies(names) {
  const select = byId("policy");
  if ([...select.options].map((each) => each.value).join("\n") !== names.join("\n")) {
    fill("policy", ...names.map((name) => element("option", { value: name }, name)));
    const wanted = policy ?? sessionStorage.getItem(CHOSEN);
    choose(names.includes(wanted) ? wanted : (names[0] ?? null));
  }
}

function choose(name) {
  policy = name;
  shownPosition = null;
  if (name === null) return;
  byId("policy").value = name;
  sessionStorage.setItem(CHOSEN, name);
}

/** Ask anew for what moves only with the ledger. */
async function refresh() {
  if (refreshing) return;
  refreshing = true;
  const [wanted, position, at] = [policy, snapshot.ledger_position, snapshot.at];
  try {
    const found = await ask(wanted, position);
    if (found && wanted === policy) {
      show(wanted, found);
      shownPosition = position;
      shownAt = at;
    }
  } finally {
    refreshing = false;
  }
}

/** What there is to show, or null where the server does not say. */
async function ask(name, position) {
  try {
    const [found, described] = await Promise.all([fetchRollout(name, position), call(`v1/policies/${encodeURIComponent(name)}`)]);
    return { ...found, described };
  } catch (error) {
    if (error.status === 401) askForKey(`${error.message}.`);
    else if (error.status) fill("trial", element("p", { class: "fault" }, `${error.message}.`));
    // Without a status the connection is gone, which the stream will say.
    return null;
  }
}

function show(name, found) {
  keepFocus(() => {
    showTrial(found);
    fill("policy-actions", ...policyActions(name, found.rollout));
    showVersions(found, (version) => versionActions(name, found.rollout, version));
    showLedger();
  });
  setTrialReturns(found.rollout.rollout.mean_return);
  const retrained = found.versions.find((each) => each.lineage?.source === "retraining");
  showRetraining(retrained && { version: retrained.version, at: moment(retrained.lineage.created_at) }, snapshot.grafana_url);
  prepareAttempt(found.described);
}

async function stayConnected() {
  let pause = 1;
  for (;;) {
    try {
      await listen((told) => {
        pause = 1;
        onSnapshot(told);
      });
    } catch (error) {
      const isRefused = error.status === 401 || error.status === 403;
      if (isRefused) {
        say("refused", "a key is needed");
        askForKey(`${error.message}.`);
        await waitFor(null);
      } else {
        await countDown(pause, error.status ? error.message : "connection lost");
        pause = Math.min(pause * 2, LONGEST_PAUSE_SECONDS);
      }
    }
  }
}

/** Wait so many seconds, or for ever, or until somebody is in a hurry. */
function waitFor(seconds) {
  return new Promise((resolve) => {
    const timer = seconds === null ? null : setTimeout(() => resolve(false), seconds * 1000);
    hurry = () => {
      clearTimeout(timer);
      resolve(true);
    };
  });
}

async function countDown(seconds, why) {
  // Said once and not every second: a screen reader would read each.
  say("lost", `${why}; trying again every ${seconds} s`);
  await waitFor(seconds);
}

function askForKey(why) {
  byId("key-why").textContent = `${why} It is kept in this tab until it is closed, and sent to this server alone.`;
  if (!byId("key-dialog").open) byId("key-dialog").showModal();
}

function useKey(key) {
  storeKey(key);
  byId("key").value = "";
  byId("key-dialog").close();
  showKey();
  shownPosition = null;
  hurry();
}

function showKey() {
  byId("key-button").textContent = storedKey() ? "Change the key" : "Enter a key";
  byId("key-forget").hidden = !storedKey();
}

function prepareKey() {
  byId("key-button").addEventListener("click", () => askForKey("An operator’s key allows changes."));
  byId("key-cancel").addEventListener("click", () => byId("key-dialog").close());
  byId("key-forget").addEventListener("click", () => useKey(null));
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(byId("key").value.trim());
  });
  showKey();
}

buildTiles();
prepareKey();
listenForAttempts();
prepareChanges(
  () => {
    shownPosition = null;
  },
  () => askForKey("The call needs a key that may make it."),
);
byId("policy").addEventListener("change", (event) => {
  choose(event.target.value);
  if (snapshot) onSnapshot(snapshot);
});
byId("ledger-all").addEventListener("change", () => showLedger());
byId("ledger-more").addEventListener("click", showMoreOfLedger);
addEventListener("online", () => hurry());
document.addEventListener("visibilitychange", () => document.hidden || hurry());
stayConnected();
