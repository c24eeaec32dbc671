// Connects the page: buttons, keys and pointers to the application.
import { App } from "./app.js";
import { keyName, keyTable, MOUSE, TOOLS, eventKey } from "./keys.js";
import { connectPointers, useTool } from "./pointers.js";
import { View } from "./view.js";

const one = (id) => document.getElementById(id);

const view = new View();
const app = new App(view);
globalThis.medsegAnnotate = app; // for the console

const page = {
  resizeBrush(by) {
    const step = app.brush.size >= 20 ? 4 : app.brush.size >= 9 ? 2 : 1;
    app.brush.size = Math.min(60, Math.max(1, app.brush.size + by * step));
    view.showTool(app);
    app.redraw();
  },
  newObject() {
    app.prompts.beginObject();
    if (app.doc.meta.numbered) {
      app.beginNumber();
      view.showClasses(app);
      view.notify(`The brush and the next prompt draw object ${app.classValue}.`);
    } else view.notify("The next prompt begins another object of the class.");
  },
  useAtCross(negative) {
    app.isPlaced = true;
    useTool(app, app.active, negative);
  },
  nextPlane() {
    const shown = app.planes.filter((plane) => plane.canvas.clientWidth > 0);
    app.active = shown[(shown.indexOf(app.active) + 1) % shown.length];
    app.active.canvas.focus();
    app.redraw();
  },
  toggleLayout() {
    const planes = document.querySelector(".planes");
    if (app.doc?.meta.shape[2] > 1) planes.dataset.count = planes.dataset.count === "3" ? "1" : "3";
    app.redraw();
  },
  enlarge(axis) {
    document.querySelector(".planes").dataset.main = String(axis);
    app.active = app.planes.find((plane) => plane.axis === axis);
    app.redraw();
  },
  fit() {
    app.planes.forEach((plane) => plane.reset());
    app.redraw();
  },
  nextWindow() {
    const { low, high } = app.display.window;
    const at = view.windows.findIndex((entry) => entry.low === low && entry.high === high);
    const next = view.windows[(at + 1) % view.windows.length];
    app.setWindow(next.low, next.high);
    view.notify(`Window: ${next.name}`);
  },
  toggleLabels() {
    one("labels-shown").checked = !one("labels-shown").checked;
    app.display.labels = one("labels-shown").checked;
    app.redraw();
  },
  help() {
    if (!one("help").open) one("help").showModal();
  },
};

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "use"));
  svg.firstChild.setAttribute("href", `#i-${name}`);
  return svg;
}

function connectButtons() {
  const actions = {
    undo: () => app.undo(), redo: () => app.redo(), save: () => app.save(false), accept: () => app.accept(), next: () => app.next(),
    help: page.help, layout: page.toggleLayout, fit: page.fit, propose: () => app.propose(), object: page.newObject,
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.action) actions[button.dataset.action]();
    else if (button.dataset.tool) app.select(button.dataset.tool);
    else if (button.dataset.case) app.open(button.dataset.case);
    else if (button.dataset.value) app.selectClass(Number(button.dataset.value));
    else if (button.classList.contains("title")) page.enlarge(Number(button.closest("figure").dataset.axis));
  });
  one("show-cases").addEventListener("click", () => {
    const isOpen = document.body.classList.toggle("cases-open");
    one("show-cases").setAttribute("aria-expanded", String(isOpen));
  });
  for (const [name, key, label, text] of TOOLS) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.tool = name;
    button.title = `${text} (${key})`;
    button.setAttribute("aria-keyshortcuts", key);
    button.append(icon(name), Object.assign(document.createElement("span"), { textContent: label }));
    one(["point", "box", "scribble", "lasso"].includes(name) ? "prompt-tools" : "tools").append(button);
  }
}

function connectSettings() {
  const bind = (id, event, use) => one(id).addEventListener(event, () => {
    use(one(id));
    app.redraw();
  });
  bind("size", "input", (input) => { app.brush.size = Number(input.value); view.showTool(app); });
  bind("ball", "change", (input) => { app.brush.ball = input.checked; });
  bind("protect", "change", (input) => { app.brush.protect = input.checked; });
  bind("opacity", "input", (input) => { app.display.opacity = Number(input.value) / 100; });
  bind("labels-shown", "change", (input) => { app.display.labels = input.checked; });
  bind("outline", "change", (input) => { app.display.outline = input.checked; });
  bind("smooth", "change", (input) => { app.display.smooth = input.checked; });
  bind("automatic-model", "change", (input) => { app.automaticModel = input.value; });
  bind("prompt-model", "change", (input) => { app.promptModel = input.value; });
  bind("channel", "change", (input) => app.setChannel(Number(input.value)));
  bind("window", "change", (input) => { const { low, high } = view.windows[Number(input.value)] ?? app.display.window; app.setWindow(low, high); });
  for (const id of ["level", "width"]) {
    bind(id, "change", () => {
      const [level, width] = [Number(one("level").value), Number(one("width").value)];
      app.setWindow(level - width / 2, level + width / 2);
    });
  }
  one("classes").addEventListener("change", (event) => {
    const value = Number(event.target.dataset.show);
    if (event.target.checked) app.display.hidden.delete(value);
    else app.display.hidden.add(value);
    app.classRevision += 1;
    app.redraw();
  });
  one("add-class").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = one("class-name").value.trim();
    one("class-name").value = "";
    if (name) app.addClass(name);
  });
}

function connectKeys() {
  const table = keyTable(app, page);
  const actions = new Map(table.flatMap(([, rows]) => rows.flatMap(([keys, , run]) => keys.map((key) => [key, run]))));
  const row = (keys, text) => {
    const line = document.createElement("div");
    const term = document.createElement("dt");
    keys.forEach((key) => term.append(Object.assign(document.createElement("kbd"), { textContent: key }), " "));
    line.append(term, Object.assign(document.createElement("dd"), { textContent: text }));
    return line;
  };
  const groups = [...table.map(([title, rows]) => [title, rows.filter(([, text]) => text).map(([keys, text]) => [keys.map(keyName), text])]),
    ["Mouse", MOUSE.map(([name, text]) => [[name], text])]];
  for (const [title, rows] of groups) {
    const list = document.createElement("dl");
    list.append(...rows.map(([keys, text]) => row(keys, text)));
    const group = document.createElement("section");
    group.append(Object.assign(document.createElement("h3"), { textContent: title }), list);
    one("keys").append(group);
  }
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches("input:not([type=checkbox]):not([type=range]), textarea, select");
    if (isTyping || event.altKey || document.querySelector("dialog[open]") || !app.info) return;
    const key = eventKey(event);
    const isControl = event.target.matches("button, summary, a, input");
    if (isControl && (key === "Space" || key === "Shift+Space" || (event.target.type === "range" && key.startsWith("Arrow")))) return;
    const number = /^[1-9]$/.test(key) ? Number(key) : 0;
    if (number) {
      const entry = app.classes.filter((item) => item.value !== (app.doc?.meta.background ?? 0))[number - 1];
      if (entry) app.selectClass(entry.value);
    } else if (actions.get(key) && (app.doc || key === "?" || key === "j")) actions.get(key)();
    else return;
    event.preventDefault();
  });
}

async function start() {
  try {
    await app.start();
  } catch (error) {
    app.fail(error);
    document.body.dataset.state = "failed";
  }
}

connectButtons();
connectSettings();
connectKeys();
connectPointers(app);
start();
