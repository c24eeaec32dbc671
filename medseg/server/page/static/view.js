// The panels, messages and dialogs around the planes.
import { NEEDS_MODEL } from "./tools.js";

const MOST_MESSAGES = 4;
const MESSAGE_SECONDS = { note: 5, warning: 9, error: 20 };

const one = (id) => document.getElementById(id);

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function swatch(color) {
  const made = element("span", { className: "swatch" });
  made.style.backgroundColor = `rgb(${color.join(" ")})`;
  return made;
}

export function fillSelect(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => element("option", { value, textContent: text, selected: value === chosen })));
}

export class View {
  constructor() {
    this.busyTexts = [];
    one("author").value = localStorage.getItem("medseg-author") || "";
    one("author").addEventListener("change", () => localStorage.setItem("medseg-author", this.author));
    one("filter").addEventListener("input", () => this.filterCases());
  }

  get author() {
    return one("author").value.trim();
  }

  get strategy() {
    return one("strategy").value;
  }

  // ---- the dataset

  showInfo(app) {
    const { info } = app;
    one("dataset").textContent = info.dataset;
    document.title = `${info.dataset}: medseg annotate`;
    one("author").placeholder = info.author || "Your name";
    const strategies = Object.keys(info.strategies);
    fillSelect(one("strategy"), strategies.map((name) => [name, name]), strategies[0]);
    [...one("strategy").options].forEach((option) => { option.title = info.strategies[option.value]; });
    const named = (kind) => info.models.filter((model) => model.kind === kind).map((model) => [model.name, model.name]);
    const [automatic, prompts] = [named("automatic"), named("prompts")];
    fillSelect(one("automatic-model"), automatic, app.automaticModel);
    fillSelect(one("prompt-model"), prompts, app.promptModel);
    one("automatic").hidden = !automatic.length;
    one("interactive").hidden = !prompts.length;
    one("no-model").hidden = automatic.length + prompts.length > 0;
    this.showTool(app);
    this.showClasses(app);
  }

  showCases(app) {
    const here = app.doc?.meta.id;
    const key = JSON.stringify([here, app.cases]);
    if (key === this.shownCases) return; // keeps the focus in the list
    this.shownCases = key;
    one("cases").replaceChildren(...app.cases.map((entry) => {
      const button = element("button", { type: "button", title: entry.id, "data-case": entry.id },
        element("span", { className: `dot ${entry.state}`, "aria-hidden": "true" }),
        element("span", { className: "name", textContent: entry.id }),
        element("span", { className: "state", textContent: entry.state }));
      if (entry.id === here) button.setAttribute("aria-current", "true");
      return element("li", {}, button);
    }));
    const accepted = app.cases.filter((entry) => entry.state === "accepted").length;
    const drafts = app.cases.filter((entry) => entry.state === "draft").length;
    const bar = element("progress", { max: app.cases.length, value: accepted, "aria-label": "Accepted cases" });
    one("progress").replaceChildren(bar, `${accepted} of ${app.cases.length} accepted${drafts ? `, ${drafts} ${drafts > 1 ? "drafts" : "draft"}` : ""}`);
    this.filterCases();
  }

  filterCases() {
    const words = one("filter").value.toLowerCase();
    for (const item of one("cases").children) item.hidden = !item.textContent.toLowerCase().includes(words);
  }

  // ---- the open case

  showDocument(app) {
    const { meta } = app.doc;
    const isVolume = meta.shape[2] > 1;
    document.querySelector(".planes").dataset.count = isVolume && meta.patient ? "3" : "1";
    document.querySelector(".planes").dataset.main = "2";
    document.body.classList.toggle("is-volume", isVolume);
    one("empty").hidden = true;
    one("add-class").hidden = Boolean(meta.numbered);
    one("channel-row").hidden = meta.channels < 2;
    fillSelect(one("channel"), meta.channel_names.map((name, index) => [String(index), name]), String(app.display.channel));
    this.showCases(app);
    document.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
    this.showWindow(app);
    this.showTool(app);
    this.showReadout(app, app.doc.place);
  }

  showWindow(app) {
    const { windows } = app.doc.meta;
    const { low, high } = app.display.window;
    const channel = app.display.channel;
    const usable = windows.filter((entry) => entry.channel === channel);
    const chosen = usable.findIndex((entry) => entry.low === low && entry.high === high);
    fillSelect(one("window"), [...usable.map((entry, index) => [String(index), entry.name]), ...(chosen < 0 ? [["own", "own"]] : [])],
      chosen < 0 ? "own" : String(chosen));
    this.windows = usable;
    one("level").value = Number(((low + high) / 2).toPrecision(5));
    one("width").value = Number((high - low).toPrecision(5));
  }

  showState(app) {
    const { doc } = app;
    const changed = app.isChanged;
    one("saved").textContent = changed ? "Unsaved changes" : doc.version ? "Saved" : "No label yet";
    one("saved").classList.toggle("is-changed", changed);
    document.querySelector('[data-action="undo"]').disabled = !doc.labels.done.length;
    document.querySelector('[data-action="redo"]').disabled = !doc.labels.undone.length;
    document.body.dataset.case = doc.meta.id;
    document.body.dataset.version = doc.version ?? "";
  }

  showReadout(app, voxel) {
    const { meta, labels, image } = app.doc;
    const index = voxel[0] + meta.shape[0] * (voxel[1] + meta.shape[1] * voxel[2]);
    const value = labels.voxels[index];
    const name = app.classes.find((entry) => entry.value === value)?.name ?? (value === 0 ? "background" : `value ${value}`);
    const stored = image.whole ? [...image.whole.subarray(index * image.samples, (index + 1) * image.samples)] : [];
    const intensity = stored.map((entry) => Number((image.scale.slope * entry + image.scale.intercept).toPrecision(5))).join(", ");
    const place = voxel.slice(0, meta.shape[2] > 1 ? 3 : 2).join(", ");
    one("readout").textContent = `(${place})${intensity ? `  value ${intensity}` : ""}  ${name}`;
  }

  showClasses(app) {
    const counts = app.doc?.labels.counts ?? new Map();
    const background = app.doc?.meta.background ?? 0;
    const declared = new Set(app.classes.map((entry) => entry.value));
    const others = [...counts].filter(([value, n]) => n > 0 && value !== background && !declared.has(value)).slice(0, 30)
      .map(([value]) => ({ value, name: `value ${value}` }));
    const rows = app.doc?.meta.numbered ? this.objectRows(app, counts)
      : [...app.classes, ...others].filter((entry) => entry.value !== background);
    const held = one("classes").contains(document.activeElement) ? document.activeElement.dataset.value : null;
    one("classes").replaceChildren(...rows.map((entry, index) => this.classRow(app, entry, index, counts.get(entry.value) || 0)));
    if (held) one("classes").querySelector(`button[data-value="${held}"]`)?.focus();
  }

  // The object that is being drawn, and the first others of a label map that numbers objects.
  objectRows(app, counts) {
    const present = [...counts].filter(([value, n]) => n > 0 && value !== app.doc.meta.background).map(([value]) => value);
    const shown = [app.classValue, ...present.filter((value) => value !== app.classValue).sort((a, b) => b - a).slice(0, 12)];
    return shown.map((value) => ({ value, name: `object ${value}${present.includes(value) ? "" : " (new)"}` }));
  }

  classRow(app, entry, index, count) {
    const button = element("button", { type: "button", className: "class", title: index < 9 ? `Select (${index + 1})` : "Select" },
      swatch(app.color(entry.value)), element("span", { className: "name", textContent: entry.name }),
      element("span", { className: "count", textContent: this.amount(app, count) }));
    button.dataset.value = entry.value;
    button.setAttribute("aria-pressed", String(entry.value === app.classValue));
    const eye = element("input", { type: "checkbox", checked: !app.display.hidden.has(entry.value), title: `Show ${entry.name}` });
    eye.setAttribute("aria-label", `Show ${entry.name}`);
    eye.dataset.show = entry.value;
    return element("li", {}, button, eye);
  }

  amount(app, voxels) {
    if (!voxels || !app.doc) return "";
    const { meta } = app.doc;
    if (!meta.patient) return voxels.toLocaleString("en");
    const ml = (voxels * meta.spacing.reduce((a, b) => a * b)) / 1000;
    return `${ml.toLocaleString("en", { maximumSignificantDigits: 3 })} ml`;
  }

  showTool(app) {
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === app.toolName));
      button.toggleAttribute("data-unavailable", NEEDS_MODEL.has(button.dataset.tool) && !app.promptModel);
    }
    document.querySelector(".planes").dataset.tool = app.toolName;
    one("size").value = app.brush.size;
    one("size-shown").textContent = `${app.brush.size} ${app.doc?.meta.shape[2] === 1 ? "pixels" : "voxels"}`;
  }

  showDone(app) {
    const text = app.cases.length ? "Every case has a label. Choose one from the list to look at it again." : "The dataset has no cases.";
    if (app.doc) this.notify(text);
    else {
      one("empty").textContent = text;
      one("empty").hidden = false;
    }
  }

  // ---- messages and dialogs

  notify(text, kind = "note") {
    const box = one("messages");
    for (const old of [...box.children]) if (old.dataset.text === text) old.remove();
    const close = element("button", { type: "button", className: "icon", textContent: "×", "aria-label": "Dismiss" });
    const message = element("div", { className: `message ${kind}`, role: kind === "error" ? "alert" : "status" }, element("span", { textContent: text }), close);
    message.dataset.text = text;
    close.addEventListener("click", () => message.remove());
    box.append(message);
    while (box.children.length > MOST_MESSAGES) box.firstChild.remove();
    setTimeout(() => message.remove(), 1000 * MESSAGE_SECONDS[kind]);
  }

  // Show what takes time; returns a function that ends it.
  showBusy(text) {
    const entry = { text };
    this.busyTexts.push(entry);
    this.updateBusy();
    return () => {
      this.busyTexts.splice(this.busyTexts.indexOf(entry), 1);
      this.updateBusy();
    };
  }

  updateBusy() {
    const last = this.busyTexts.at(-1);
    document.body.dataset.state = last ? "busy" : "ready";
    one("busy").textContent = last ? `${last.text} …` : "";
    one("busy").hidden = !last;
  }

  askConflict(voxels) {
    const dialog = one("conflict");
    one("conflict-text").textContent = `Since you opened this case, another window has saved it. Both changed ${voxels.toLocaleString("en")} voxels in different ways. Which values should they have?`;
    return new Promise((done) => {
      const finish = (choice) => {
        dialog.close();
        done(choice);
      };
      for (const button of dialog.querySelectorAll("button")) button.onclick = () => finish(button.value);
      dialog.oncancel = () => finish("cancel");
      dialog.showModal();
    });
  }
}
