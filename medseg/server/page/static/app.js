// The state of the page: the open case, its label map, and what happens on save, accept, next.
import { api, emptyLabel } from "./api.js";
import { ImageSource } from "./images.js";
import { LabelMap, merge } from "./labels.js";
import { Plane } from "./plane.js";
import { Prompts } from "./prompts.js";
import { createTools, NEEDS_MODEL } from "./tools.js";

const POLL_SECONDS = 10;

export class App {
  // `view` shows state and messages: the panels and dialogs of the page.
  constructor(view) {
    this.view = view;
    this.doc = null;
    this.cases = [];
    this.classValue = 1;
    this.classRevision = 0;
    this.stroke = 0;
    this.brush = { size: 7, ball: false, protect: false };
    this.display = {
      window: { low: 0, high: 255 }, opacity: 0.4, outline: false, labels: true, smooth: true, hidden: new Set(), channel: 0,
    };
    this.automaticModel = "";
    this.promptModel = "";
    this.isPlaced = false;
    this.isDrawing = false;
    this.opening = 0;
    this.saving = Promise.resolve();
    this.saves = 0;
    this.prompts = new Prompts(this);
    this.tools = createTools(this);
    this.toolName = "navigate";
    this.planes = [...document.querySelectorAll("figure[data-axis]")].map((figure) => new Plane(figure, this));
    this.active = this.planes[0];
  }

  async start() {
    this.info = await api.info();
    this.automaticModel = this.info.models.find((model) => model.kind === "automatic")?.name || "";
    this.promptModel = this.info.models.find((model) => model.kind === "prompts")?.name || "";
    this.setClasses(this.info.classes);
    await this.refreshCases();
    this.view.showInfo(this);
    window.addEventListener("beforeunload", (event) => { if (this.isChanged) event.preventDefault(); });
    setInterval(() => this.poll(), POLL_SECONDS * 1000);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.poll(); });
    const wanted = new URLSearchParams(location.hash.slice(1)).get("case");
    if (this.cases.some((one) => one.id === wanted)) await this.open(wanted);
    else await this.next();
  }

  // ---- cases

  // Returns the version of the open case's label.
  async refreshCases() {
    const { cases, classes, version } = await api.cases(this.doc?.meta.id ?? "");
    this.cases = cases;
    if (JSON.stringify(classes) !== JSON.stringify(this.classes)) {
      this.setClasses(classes); // another window has added one
      this.view.showClasses(this);
    }
    this.view.showCases(this);
    return version;
  }

  async poll() {
    const { doc } = this;
    if (document.hidden) return;
    try {
      const version = await this.refreshCases();
      if (doc && doc === this.doc && version !== doc.version && !this.saves) {
        if (this.isChanged) this.view.notify("This case was saved in another window. Saving merges both.", "warning");
        else await this.reload();
      }
    } catch { /* the next request of the user shows it */ }
  }

  async open(id) {
    const ticket = ++this.opening; // a case that was chosen later counts
    if (!(await this.leave())) return;
    await this.busy(`Opening ${id}`, async () => {
      const meta = await api.case(id);
      const image = new ImageSource(meta, Math.min(this.display.channel, meta.channels - 1), () => this.redraw(), (error) => this.fail(error));
      const [label] = await Promise.all([api.label(id), image.start()]);
      // What was painted or answered meanwhile is saved, too.
      do {
        this.tool.finish?.();
        if (!(await this.leave()) || ticket !== this.opening) return;
      } while (this.isChanged || this.tool.edit);
      const voxels = label ? label.voxels : emptyLabel(meta.shape.reduce((a, b) => a * b), meta.label_dtype);
      if (meta.background && !label) voxels.fill(meta.background);
      this.prompts.end();
      this.doc = {
        meta, image, labels: new LabelMap(meta.shape, voxels), saved: voxels.slice(), version: label?.version || null,
        savedRevision: 0, place: meta.focus,
      };
      this.display.channel = image.channel;
      this.display.window = { ...meta.windows.find((one) => one.channel === image.channel) };
      this.planes.forEach((plane) => plane.reset());
      history.replaceState(null, "", `#case=${encodeURIComponent(id)}`);
      this.beginNumber();
      this.view.showDocument(this);
      this.changed();
    });
  }

  // Label maps that number objects: paint the next object with a number that is free.
  beginNumber() {
    const { meta, labels } = this.doc;
    if (!meta.numbered) return;
    this.classValue = Math.max(0, ...[...labels.counts].filter(([, voxels]) => voxels > 0).map(([value]) => value)) + 1;
    labels.widen();
  }

  // Load the label map again, which another window has saved.
  async reload() {
    const { doc } = this;
    const label = await api.label(doc.meta.id);
    if (this.doc !== doc || this.isChanged) return;
    if (!label) {
      doc.version = null;
      doc.savedRevision = -1; // what is shown is not saved any more
      this.changed();
      this.view.notify("The label was removed in another window. Saving keeps the one that is shown.", "warning");
      return;
    }
    this.adopt(doc, label.voxels, label.voxels, label.version);
    this.view.notify("Loaded the label that another window has saved.");
  }

  // Show other voxels as those of a saved version.
  adopt(doc, voxels, saved, version) {
    doc.labels.replace(voxels, "other window");
    doc.saved = saved.slice();
    doc.version = version;
    this.prompts.end();
    doc.savedRevision = doc.labels.revision;
    this.changed();
  }

  async next() {
    if (!(await this.leave()) || this.isChoosing) return;
    this.isChoosing = true;
    const id = await this.busy("Choosing the next case", () => api.next(this.view.strategy, this.doc?.meta.id || ""));
    this.isChoosing = false;
    if (id?.case) await this.open(id.case);
    else if (id) this.view.showDone(this);
  }

  step(by) {
    if (!this.cases.length) return;
    const at = this.cases.findIndex((one) => one.id === this.doc?.meta.id);
    this.open(this.cases[(at + by + this.cases.length) % this.cases.length].id);
  }

  // ---- saving

  get isChanged() {
    const isDrawing = (this.tool.edit?.indices.length ?? 0) > 0; // a stroke that has not ended
    return this.doc !== null && (isDrawing || this.doc.labels.revision !== this.doc.savedRevision);
  }

  // Save what is open before it is replaced; returns whether it may be.
  async leave() {
    await this.prompts.queue.catch(() => {});
    await this.saving;
    return !this.isChanged || this.save(false);
  }

  async accept() {
    if (!this.doc || this.isAccepting) return;
    this.isAccepting = true;
    try {
      await this.saving;
      const isDone = !this.isChanged && this.doc.version?.startsWith("final");
      if (!isDone && !(await this.save(true))) return;
    } finally {
      this.isAccepting = false;
    }
    await this.next(); // what is changed meanwhile can be accepted, too
  }

  // Save the label map, after a save that is running; returns whether the server has it.
  async save(accepted) {
    const { doc } = this;
    if (!doc) return false;
    const before = Promise.all([this.saving, this.prompts.queue.catch(() => {})]);
    this.saves += 1;
    this.saving = before.then(() => this.busy("Saving", () => this.send(doc, accepted, null)));
    const saved = await this.saving;
    this.saves -= 1;
    return saved === true;
  }

  async send(doc, accepted, prefer) {
    const revision = doc.labels.revision;
    const voxels = doc.labels.voxels.slice();
    const query = { base: doc.version, accepted: accepted ? 1 : 0, author: this.view.author, dtype: doc.labels.dtype };
    try {
      const answer = await api.save(doc.meta.id, voxels, query);
      doc.saved = voxels;
      doc.version = answer.version;
      doc.savedRevision = revision;
      const listed = this.cases.find((one) => one.id === doc.meta.id);
      if (listed) listed.state = answer.state;
      this.view.showCases(this);
      this.changed();
      return true;
    } catch (error) {
      if (error.status !== 412) throw error;
      return this.settle(doc, accepted, prefer);
    }
  }

  // Another window has saved this case since it was opened: merge, ask where both changed a voxel, save again.
  async settle(doc, accepted, prefer) {
    const theirs = await api.label(doc.meta.id);
    if (!theirs) { // it was removed
      doc.version = null;
      return this.send(doc, accepted, prefer);
    }
    this.tool.finish?.();
    const theirVoxels = theirs.voxels;
    let result = merge(doc.saved, doc.labels.voxels, theirVoxels, prefer || "mine");
    if (result.conflicts && !prefer) {
      const choice = await this.view.askConflict(result.conflicts);
      if (choice === "cancel") return false;
      this.tool.finish?.();
      result = merge(doc.saved, doc.labels.voxels, theirVoxels, choice);
    }
    this.adopt(doc, result.merged, theirVoxels, theirs.version);
    doc.savedRevision = -1; // the merged label is not saved yet
    this.view.notify(`Merged with the label that another window has saved (${result.taken.toLocaleString()} voxels).`);
    return this.send(doc, accepted, prefer);
  }

  // ---- editing

  // Set a voxel to a value within an edit, unless it belongs to another class that is kept.
  put(edit, index, value) {
    const old = edit.labels.voxels[index];
    const { background } = this.doc.meta;
    if (this.brush.protect && old !== background && old !== this.classValue) return;
    edit.set(index, value);
  }

  keep(edit) {
    const changed = edit.labels.commit(edit);
    if (changed) this.changed();
    return changed;
  }

  stroked() {
    this.stroke += 1;
    this.redraw();
  }

  undo() {
    const step = this.doc?.labels.undo();
    if (!step) return;
    this.prompts.undone(this.doc, step);
    this.changed();
  }

  redo() {
    if (!this.doc?.labels.redo()) return;
    this.prompts.end();
    this.changed();
  }

  async propose() {
    const { doc } = this;
    if (!doc || !this.automaticModel) {
      this.notify("No automatic model is loaded: medseg annotate DATA --model RUN starts with one.", "warning");
      return;
    }
    await this.busy(`${this.automaticModel} segments ${doc.meta.id}`, async () => {
      const voxels = await api.proposal(doc.meta.id, this.automaticModel);
      if (this.doc !== doc) return;
      doc.labels.replace(voxels, "proposal");
      this.changed();
    });
  }

  // ---- tools, classes, places

  get tool() {
    return this.tools[this.toolName];
  }

  select(name) {
    if (NEEDS_MODEL.has(name) && !this.promptModel) {
      this.notify("This tool needs a prompt model: medseg annotate DATA --model MODEL.", "warning");
      return;
    }
    this.toolName = name;
    this.view.showTool(this);
    this.redraw();
  }

  setClasses(classes) {
    this.classes = classes;
    this.classRevision += 1;
    this.colors = new Map(classes.map((one) => [one.value, one.color]));
    if (this.doc && classes.some((one) => one.value > 255)) this.doc.labels.widen();
    const background = this.doc?.meta.background ?? 0;
    if (!this.doc?.meta.numbered && !classes.some((one) => one.value === this.classValue)) {
      this.classValue = classes.find((one) => one.value !== background)?.value ?? 1;
    }
  }

  // Color of a value; values that are not declared have colors by the golden angle.
  color(value) {
    if (!this.colors.has(value)) {
      const hue = (value * 0.6180339887) % 1;
      const channel = (shift) => Math.round(255 * Math.min(1, Math.max(0.25, Math.abs(((hue * 6 + shift) % 6) - 3) - 1)));
      this.colors.set(value, [channel(0), channel(4), channel(2)]);
    }
    return this.colors.get(value);
  }

  selectClass(value) {
    if (value !== this.classValue) this.prompts.end();
    this.classValue = value;
    this.view.showClasses(this);
    this.redraw();
  }

  // Select the class, or the object, at the crosshair.
  pick() {
    const [x, y, z] = this.doc.place;
    const { shape } = this.doc.meta;
    const value = this.doc.labels.voxels[x + shape[0] * (y + shape[1] * z)];
    if (value !== this.doc.meta.background) this.selectClass(value);
  }

  async addClass(name) {
    await this.busy("Adding the class", async () => {
      const { classes, value } = await api.addClass(name);
      this.setClasses(classes);
      this.selectClass(value);
    });
  }

  async setChannel(channel) {
    const { doc } = this;
    await this.busy("Loading", async () => {
      const image = new ImageSource(doc.meta, channel, () => this.redraw(), (error) => this.fail(error));
      await image.start();
      doc.image = image;
      this.display.channel = channel;
      this.display.window = { ...doc.meta.windows.find((one) => one.channel === channel) };
      this.view.showWindow(this);
      this.redraw();
    });
  }

  setWindow(low, high) {
    this.display.window = { low, high: Math.max(high, low + 1e-6) };
    this.view.showWindow(this);
    this.redraw();
  }

  moveTo(axis, index) {
    const place = [...this.doc.place];
    place[axis] = Math.min(Math.max(0, index), this.doc.meta.shape[axis] - 1);
    this.moveToVoxel(place);
  }

  moveToVoxel(place) {
    this.doc.place = place;
    this.view.showReadout(this, place);
    this.redraw();
  }

  // ---- drawing and messages

  redraw() {
    if (this.isDrawing) return;
    this.isDrawing = true;
    requestAnimationFrame(() => {
      this.isDrawing = false;
      for (const plane of this.planes) plane.draw();
    });
  }

  changed() {
    this.view.showState(this);
    this.view.showClasses(this);
    this.redraw();
  }

  notify(text, kind = "note") {
    this.view.notify(text, kind);
  }

  fail(error) {
    this.view.notify(error.message, "error");
    if (!("status" in error)) console.error(error); // not an answer of the server
  }

  // Show that something takes time; errors become messages, and the result is then undefined.
  async busy(text, work) {
    const end = this.view.showBusy(text);
    try {
      return await work();
    } catch (error) {
      this.fail(error);
      return undefined;
    } finally {
      end();
    }
  }
}
