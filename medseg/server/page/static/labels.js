// A label map with steps that can be undone, and how the label maps of two windows are merged.

const MOST_UNDONE = 60e6; // voxels over all steps; the oldest steps are forgotten

// The voxels that one step changes.
class Edit {
  constructor(labels, tag) {
    this.labels = labels;
    this.tag = tag;
    this.indices = [];
    this.before = [];
    this.after = [];
  }

  set(index, value) {
    const { voxels } = this.labels;
    const old = voxels[index];
    if (old === value) return;
    voxels[index] = value;
    this.indices.push(index);
    this.before.push(old);
    this.after.push(value);
    this.labels.count(old, -1);
    this.labels.count(value, 1);
  }
}

export class LabelMap {
  // `shape` is (x, y, z), `voxels` a typed array with x fastest.
  constructor(shape, voxels) {
    this.shape = shape;
    this.strides = [1, shape[0], shape[0] * shape[1]];
    this.voxels = voxels;
    this.done = [];
    this.undone = [];
    this.revision = 0; // changes with every step
    this.counts = new Map();
    this.recount();
  }

  // The name of the type of the voxels.
  get dtype() {
    return this.voxels instanceof Uint8Array ? "uint8" : "uint16";
  }

  // Make room for values from 256 on.
  widen() {
    if (!(this.voxels instanceof Uint8Array)) return;
    this.voxels = Uint16Array.from(this.voxels);
    for (const step of [...this.done, ...this.undone]) {
      step.before = Uint16Array.from(step.before);
      step.after = Uint16Array.from(step.after);
    }
  }

  recount() {
    const table = new Float64Array(65536);
    for (const value of this.voxels) table[value] += 1;
    this.counts = new Map();
    table.forEach((number, value) => { if (number) this.counts.set(value, number); });
  }

  count(value, change) {
    this.counts.set(value, (this.counts.get(value) || 0) + change);
  }

  begin(tag = null) {
    return new Edit(this, tag);
  }

  // Keep an edit as a step; returns whether it changed anything.
  commit(edit) {
    if (!edit.indices.length) return false;
    const kind = this.voxels.constructor;
    this.done.push({
      tag: edit.tag, indices: Uint32Array.from(edit.indices), before: kind.from(edit.before), after: kind.from(edit.after),
    });
    this.undone = [];
    this.revision += 1;
    let total = this.done.reduce((sum, step) => sum + step.indices.length, 0);
    while (this.done.length > 1 && total > MOST_UNDONE) total -= this.done.shift().indices.length;
    return true;
  }

  // Take back the last step, or the last step that was taken back; returns it, null if there is none.
  undo() {
    return this.step(this.done, this.undone, "before");
  }

  redo() {
    return this.step(this.undone, this.done, "after");
  }

  step(from, to, which) {
    const step = from.pop();
    if (!step) return null;
    to.push(step);
    for (let i = 0; i < step.indices.length; i += 1) {
      const index = step.indices[i];
      this.count(this.voxels[index], -1);
      this.voxels[index] = step[which][i];
      this.count(this.voxels[index], 1);
    }
    this.revision += 1;
    return step;
  }

  // Replace all voxels, as one step.
  replace(voxels, tag = null) {
    if (!(voxels instanceof Uint8Array)) this.widen();
    const edit = this.begin(tag);
    for (let i = 0; i < voxels.length; i += 1) if (voxels[i] !== this.voxels[i]) edit.set(i, voxels[i]);
    return this.commit(edit);
  }
}

// Merge the changes that two windows made to the same label map. Where only one changed a voxel, its value
// counts; where both did, and differently, the voxel is a conflict, which `prefer` decides ("mine", "theirs").
export function merge(base, mine, theirs, prefer = "mine") {
  const merged = theirs.BYTES_PER_ELEMENT > mine.BYTES_PER_ELEMENT ? theirs.constructor.from(mine) : mine.slice();
  let [taken, conflicts] = [0, 0];
  for (let i = 0; i < merged.length; i += 1) {
    if (theirs[i] === base[i] || theirs[i] === mine[i]) continue;
    if (mine[i] === base[i]) {
      merged[i] = theirs[i];
      taken += 1;
    } else {
      conflicts += 1;
      if (prefer === "theirs") merged[i] = theirs[i];
    }
  }
  return { merged, taken, conflicts };
}
