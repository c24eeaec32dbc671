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
    this.isNewObject = false;
  }

  // The next prompt begins another object instead of correcting the class.
  beginObject() {
    this.end();
    this.isNewObject = true;
    this.app.redraw();
  }

  get shown() {
    return this.given;
  }

  // Requests run one after another: a click during the answer to the last one waits.
  add(prompt) {
    const { app } = this;
    if (!app.promptModel) {
      app.notify("No prompt model is loaded: medseg annotate DATA --model MODEL starts with one.", "warning");
      return this.queue;
    }
    const doc = app.doc;
    this.queue = this.queue.then(() => (app.doc === doc ? app.busy("Asking the model", () => this.answer(doc, prompt)) : null));
    return this.queue;
  }

  async answer(doc, prompt) {
    const { app } = this;
    if (!this.isCurrent(doc, prompt)) await this.open(doc, prompt);
    const { session } = this;
    this.given.push(prompt);
    app.redraw();
    try {
      const { line: _, ...content } = prompt;
      this.apply(doc, await api.prompt(session.id, content));
    } catch (error) {
      this.given.pop();
      if (error.status === 404 || error.status === 410) this.end(); // the lease has ended
      throw error;
    }
  }

  isCurrent(doc, prompt) {
    const { session, app } = this;
    return session !== null && session.doc === doc && session.model === app.promptModel
      && session.value === app.classValue && session.revision === doc.labels.revision
      && (!session.slice || (session.slice.axis === prompt.axis && session.slice.index === prompt.index));
  }

  async open(doc, prompt) {
    const { app, isNewObject } = this;
    if (this.session) this.end();
    const value = app.classValue;
    const { shape } = doc.meta;
    // A model of slices answers for one slice only.
    const isSlice = app.info.models.find((model) => model.name === app.promptModel)?.slices && shape[2] > 1;
    const box = { lower: [0, 0, 0], upper: [...shape] };
    if (isSlice) [box.lower[prompt.axis], box.upper[prompt.axis]] = [prompt.index, prompt.index + 1];
    const ground = doc.labels.voxels.slice(); // the label map without the object
    let first = null;
    if (!isNewObject && (doc.labels.counts.get(value) || 0) > 0) {
      first = new Uint8Array(ground.length);
      for (let z = box.lower[2]; z < box.upper[2]; z += 1) {
        for (let y = box.lower[1]; y < box.upper[1]; y += 1) {
          for (let x = box.lower[0]; x < box.upper[0]; x += 1) {
            const index = x + shape[0] * (y + shape[1] * z);
            if (ground[index] !== value) continue;
            first[index] = 1;
            ground[index] = doc.meta.background;
          }
        }
      }
    }
    const id = await api.openSession(doc.meta.id, app.promptModel, prompt, first);
    this.session = {
      id, doc, value, ground, box, model: app.promptModel, revision: doc.labels.revision,
      slice: isSlice ? { axis: prompt.axis, index: prompt.index } : null,
    };
  }

  // Paint a mask: the voxels of the last mask that are not in it get back what they were before.
  apply(doc, mask) {
    const { session, app } = this;
    const [nx, ny] = doc.meta.shape;
    const { lower, upper } = union(mask, session.box);
    const size = mask.upper.map((value, axis) => value - mask.lower[axis]);
    const edit = doc.labels.begin(session.id);
    for (let z = lower[2]; z < upper[2]; z += 1) {
      for (let y = lower[1]; y < upper[1]; y += 1) {
        for (let x = lower[0]; x < upper[0]; x += 1) {
          const index = x + nx * (y + ny * z);
          const [i, j, k] = [x - mask.lower[0], y - mask.lower[1], z - mask.lower[2]];
          const inside = i >= 0 && j >= 0 && k >= 0 && i < size[0] && j < size[1] && k < size[2]
            && mask.voxels[i + size[0] * (j + size[1] * k)] !== 0;
          const isFree = !app.brush.protect || session.ground[index] === doc.meta.background;
          edit.set(index, inside && isFree ? session.value : session.ground[index]);
        }
      }
    }
    session.box = mask;
    const changed = doc.labels.commit(edit);
    this.given.at(-1).isStep = changed;
    session.revision = doc.labels.revision;
    app.changed();
    if (!changed) app.notify("The model changed nothing.");
  }

  // Called after a step was taken back: the session takes back its prompt, too, or ends.
  undone(doc, step) {
    const { session } = this;
    if (!session) return;
    if (step.tag !== session.id || !this.given.length) {
      this.end();
      return;
    }
    let taken = 1;
    while (this.given.length && !this.given.pop().isStep) taken += 1; // prompts without effect are no steps
    session.revision = doc.labels.revision;
    this.queue = this.queue.then(async () => {
      try {
        for (; taken > 0; taken -= 1) session.box = await api.undoPrompt(session.id);
      } catch {
        if (this.session === session) this.end();
      }
    });
  }
}

function union(a, b) {
  if (a.upper.some((value, axis) => value <= a.lower[axis])) return b;
  if (b.upper.some((value, axis) => value <= b.lower[axis])) return a;
  return {
    lower: a.lower.map((value, axis) => Math.min(value, b.lower[axis])),
    upper: a.upper.map((value, axis) => Math.max(value, b.upper[axis])),
  };
}
