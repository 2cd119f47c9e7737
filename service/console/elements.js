// Elements whose text is text, whoever wrote it, and figures as people read them.

/** An element; children are elements or strings, and null is left out. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function byId(id) {
  return document.getElementById(id);
}

export function fill(id, ...children) {
  byId(id).replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

/** Redraw, and leave the keyboard where it was: on the element of the same `data-focus`. */
export function keepFocus(redraw) {
  const name = document.activeElement?.dataset.focus;
  redraw();
  if (!name || document.activeElement?.dataset.focus) return;
  const same = document.querySelector(`[data-focus="${CSS.escape(name)}"]`);
  (same ?? byId("trial")).focus();
}

/** Terms and what is said of them; pairs without a value are left out. */
export function pairs(entries) {
  const known = entries.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return element("dl", { class: "pairs" }, ...known.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, value)]));
}

/** Three significant digits, or a dash for what is not known. */
export function figure(value) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString();
  return String(Number(value.toPrecision(3)));
}

export function percent(share) {
  if (share === null || share === undefined) return "–";
  const shown = share * 100;
  // 99.96 must not read as 100.
  const digits = shown > 99 && shown < 100 ? 2 : 1;
  return `${String(Number((Math.floor(shown * 10 ** digits) / 10 ** digits).toFixed(digits)))} %`;
}

export function milliseconds(seconds) {
  return seconds === null || seconds === undefined ? "–" : figure(seconds * 1000);
}

export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${figure(count)} ${units[unit]}`;
}

export function moment(at) {
  const date = typeof at === "number" ? new Date(at * 1000) : new Date(at);
  return element("time", { datetime: date.toISOString(), title: date.toISOString() }, date.toLocaleString());
}

/** A link to a dashboard where the server knows Grafana, else the dashboard's name. */
export function dashboard(grafanaUrl, uid, title, policy) {
  if (!grafanaUrl) return `Grafana, “${title}”`;
  const query = new URLSearchParams({ "var-policy": policy });
  return element("a", { href: `${grafanaUrl.replace(/\/$/, "")}/d/${uid}?${query}`, rel: "noreferrer" }, `Grafana: ${title}`);
}
