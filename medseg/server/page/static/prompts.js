// The dialog with the prompt model: prompts go to a session of the server, its masks become steps of the label map.
import { api } from "./api.js";

export class Prompts {
  constructor(app) {
    this.app = app;
    this.queue = Promise.resolve();
    this.end();
  }

  // Forget the session; the next prompt starts from what the label map holds then.
  end() {
    if (this.session) api.closeSession(this.session.id).catch(() => {});
    this.session = null;
    this.given = []; // prompts of the session
    this.pending = null; // a prompt whose answer is on its way
    this.isNewObject = false;
  }

  // The next prompt begins another object instead of correcting the class.
  beginObject() {
    this.end();
    this.isNewObject = true;
    this.app.redraw();
  }

  get shown() {
    return this.pending ? [...this.given, this.pending] : this.given;
  }

  // Requests run one after another: a click during the answer to the last one waits.
  add(prompt) {
    const { app } = this;
    if (!app.promptModel) {
      app.notify("No prompt model is loaded: medseg annotate DATA --model MODEL starts with one.", "warning");
      return this.queue;
    }
    const { doc } = app;
    this.queue = this.queue.then(() => (app.doc === doc ? app.busy("Asking the model", () => this.answer(doc, prompt)) : null));
    return this.queue;
  }

  async answer(doc, prompt) {
    const { app } = this;
    const { revision } = doc.labels;
    if (!this.isCurrent(doc, prompt)) await this.open(doc, prompt);
    const { session } = this;
    this.pending = prompt;
    app.redraw();
    try {
      const { line: _, ...content } = prompt;
      const mask = await api.prompt(session.id, content);
      if (app.doc !== doc || this.session !== session) return;
      // What was drawn during the answer stays, but the model does not know it: the next prompt begins from it.
      if (doc.labels.revision !== revision) session.isStale = true;
      this.apply(doc, mask, prompt);
    } catch (error) {
      if (error.status === 404) this.end(); // the lease has ended
      throw error;
    } finally {
      this.pending = null;
      app.redraw();
    }
  }

  isCurrent(doc, prompt) {
    const { session, app } = this;
    return session !== null && !session.isStale && session.doc === doc && session.model === app.promptModel
      && session.value === app.classValue && session.revision === doc.labels.revision
      && (!session.slice || (session.slice.axis === prompt.axis && session.slice.index === prompt.index));
  }

  async open(doc, prompt) {
    const { app, isNewObject } = this;
    if (this.session) this.end();
    const value = app.classValue;
    // A model of slices answers for one slice only.
    const isSlice = app.info.models.find((model) => model.name === app.promptModel)?.slices && doc.meta.shape[2] > 1;
    const slice = isSlice ? { axis: prompt.axis, index: prompt.index } : null;
    const hasClass = !isNewObject && (doc.labels.counts.get(value) || 0) > 0;
    const mask = hasClass ? maskOfClass(doc, value, slice) : { lower: [0, 0, 0], upper: [0, 0, 0] };
    const ground = new doc.labels.voxels.constructor(doc.labels.voxels.length).fill(doc.meta.background);
    const id = await api.openSession(doc.meta.id, app.promptModel, prompt, hasClass ? mask.voxels : null);
    this.session = { id, doc, value, ground, mask, slice, model: app.promptModel, revision: doc.labels.revision };
    this.isNewObject = false;
  }

  // Paint what a mask adds to the last one, and give voxels that it leaves out what they had before.
  apply(doc, mask, prompt) {
    const { session, app } = this;
    const { background } = doc.meta;
    const { voxels } = doc.labels;
    const last = session.mask;
    const edit = doc.labels.begin(session.id);
    forEachVoxel(union(mask, last), doc.meta.shape, (index, x, y, z) => {
      const [was, is] = [holds(last, x, y, z), holds(mask, x, y, z)];
      if (is && !was && voxels[index] !== session.value && (!app.brush.protect || voxels[index] === background)) {
        session.ground[index] = voxels[index];
        edit.set(index, session.value);
      } else if (was && !is && voxels[index] === session.value) edit.set(index, session.ground[index]);
    });
    session.mask = mask;
    const changed = doc.labels.commit(edit);
    this.given.push({ ...prompt, isStep: changed });
    session.revision = doc.labels.revision;
    app.changed();
    if (!changed) app.notify("The model changed nothing.");
  }

  // Called after a step was taken back: the session takes back its prompt, too, or ends.
  undone(doc, step) {
    const { session } = this;
    if (!session) return;
    if (this.pending) {
      session.isStale = true; // the answer to the next prompt is on its way
      return;
    }
    if (step.tag !== session.id || !this.given.length || session.isStale) {
      this.end();
      return;
    }
    let taken = 1;
    while (this.given.length && !this.given.pop().isStep) taken += 1; // prompts without effect are no steps
    session.revision = doc.labels.revision;
    this.queue = this.queue.then(async () => {
      try {
        for (; taken > 0; taken -= 1) session.mask = await api.undoPrompt(session.id);
      } catch {
        if (this.session === session) this.end();
      }
    });
  }
}

// The voxels of a class as a mask, in the whole image or in one slice.
function maskOfClass(doc, value, slice) {
  const { shape } = doc.meta;
  const box = { lower: [0, 0, 0], upper: [...shape] };
  if (slice) [box.lower[slice.axis], box.upper[slice.axis]] = [slice.index, slice.index + 1];
  const mask = { lower: [...shape], upper: [0, 0, 0], origin: [0, 0, 0], size: shape, voxels: new Uint8Array(doc.labels.voxels.length) };
  forEachVoxel(box, shape, (index, ...place) => {
    if (doc.labels.voxels[index] !== value) return;
    mask.voxels[index] = 1;
    place.forEach((at, axis) => {
      mask.lower[axis] = Math.min(mask.lower[axis], at);
      mask.upper[axis] = Math.max(mask.upper[axis], at + 1);
    });
  });
  return mask;
}

function forEachVoxel({ lower, upper }, shape, use) {
  for (let z = lower[2]; z < upper[2]; z += 1) {
    for (let y = lower[1]; y < upper[1]; y += 1) {
      const row = shape[0] * (y + shape[1] * z);
      for (let x = lower[0]; x < upper[0]; x += 1) use(row + x, x, y, z);
    }
  }
}

// Whether a mask holds a voxel. `voxels` begin at `origin` and have the shape `size`.
function holds({ lower, upper, origin, size, voxels }, x, y, z) {
  if (x < lower[0] || y < lower[1] || z < lower[2] || x >= upper[0] || y >= upper[1] || z >= upper[2]) return false;
  return voxels[x - origin[0] + size[0] * (y - origin[1] + size[1] * (z - origin[2]))] !== 0;
}

function union(a, b) {
  if (a.upper.some((value, axis) => value <= a.lower[axis])) return b;
  if (b.upper.some((value, axis) => value <= b.lower[axis])) return a;
  return {
    lower: a.lower.map((value, axis) => Math.min(value, b.lower[axis])),
    upper: a.upper.map((value, axis) => Math.max(value, b.upper[axis])),
  };
}
