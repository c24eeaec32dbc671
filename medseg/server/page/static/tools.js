// What the left button does in a plane. A tool has down, move and up; `draw` shows what is being drawn.

// Every voxel of a disk (or a ball) around a place, with a diameter in voxels of the finest spacing of the plane.
export function dab(plane, place, { size, ball }, use) {
  const { shape, spacing } = plane.app.doc.meta;
  const axes = [plane.across, plane.down];
  const fine = Math.min(spacing[axes[0]], spacing[axes[1]]);
  const radius = (size / 2) * fine + 1e-6;
  const reach = spacing.map((step, axis) => (axes.includes(axis) || ball ? Math.floor(radius / step) : 0));
  const [low, high] = [[], []];
  for (let axis = 0; axis < 3; axis += 1) {
    low.push(Math.max(0, place[axis] - reach[axis]));
    high.push(Math.min(shape[axis] - 1, place[axis] + reach[axis]));
  }
  const far = (value, axis) => ((value - place[axis]) * spacing[axis]) ** 2;
  for (let z = low[2]; z <= high[2]; z += 1) {
    for (let y = low[1]; y <= high[1]; y += 1) {
      for (let x = low[0]; x <= high[0]; x += 1) {
        if (far(x, 0) + far(y, 1) + far(z, 2) <= radius ** 2) use(x + shape[0] * (y + shape[1] * z));
      }
    }
  }
}

// Voxels (x, y, z) on the line between two places, the first one left out.
export function walk(from, to) {
  const steps = Math.max(...to.map((value, axis) => Math.abs(value - from[axis])));
  return Array.from({ length: steps }, (_, i) => from.map((value, axis) => Math.round(value + ((to[axis] - value) * (i + 1)) / steps)));
}

// Columns of each row whose pixel centers lie inside a closed line: use(row, first, last).
export function fillOutline(line, height, use) {
  const rows = line.map(([, v]) => v);
  for (let row = Math.max(0, Math.floor(Math.min(...rows))); row < Math.min(height, Math.ceil(Math.max(...rows))); row += 1) {
    const crossings = [];
    line.forEach(([u0, v0], i) => {
      const [u1, v1] = line[(i + 1) % line.length];
      const y = row + 0.5;
      if ((v0 <= y) !== (v1 <= y)) crossings.push(u0 + ((y - v0) / (v1 - v0)) * (u1 - u0));
    });
    crossings.sort((a, b) => a - b);
    for (let i = 0; i + 1 < crossings.length; i += 2) use(row, Math.ceil(crossings[i] - 0.5), Math.ceil(crossings[i + 1] - 0.5) - 1);
  }
}

class Navigate {
  down(plane, at) { this.move(plane, at); }
  move(plane, at) { plane.app.moveToVoxel(at.voxel); }
  up() {}
}

class Brush {
  constructor(app, erase) {
    this.app = app;
    this.erase = erase;
    this.hover = null;
  }

  get value() {
    return this.erase ? this.app.doc.meta.background : this.app.classValue;
  }

  down(plane, at) {
    this.edit = this.app.doc.labels.begin("brush");
    this.last = at.voxel;
    this.touch(plane, at.voxel);
  }

  move(plane, at) {
    this.hover = { plane, at };
    if (!this.edit) return;
    for (const place of walk(this.last, at.voxel)) this.touch(plane, place);
    this.last = at.voxel;
  }

  touch(plane, place) {
    dab(plane, place, this.app.brush, (index) => this.app.put(this.edit, index, this.value));
    this.app.stroked();
  }

  up() {
    this.finish();
  }

  // End a stroke, also one that is still being drawn.
  finish() {
    if (this.edit) this.app.keep(this.edit);
    this.edit = null;
  }

  hovered(plane, at) {
    this.hover = at && { plane, at };
    this.app.redraw();
  }

  draw(plane, pen) {
    if (this.hover?.plane !== plane || !this.hover.at.inside) return;
    const { voxel } = this.hover.at;
    const { sx, sy } = plane.transform;
    const { spacing } = this.app.doc.meta;
    const fine = Math.min(spacing[plane.across], spacing[plane.down]);
    const [x, y] = plane.toCanvas(voxel[plane.across] + 0.5, voxel[plane.down] + 0.5);
    const radius = (axis, scale) => Math.abs((this.app.brush.size / 2) * (fine / spacing[axis]) * scale);
    pen.beginPath();
    pen.ellipse(x, y, radius(plane.across, sx), radius(plane.down, sy), 0, 0, 2 * Math.PI);
    pen.lineWidth = 1.5;
    pen.strokeStyle = this.erase ? "#fff" : `rgb(${this.app.color(this.value).join(" ")})`;
    pen.stroke();
  }
}

// A line drawn with the button held: an outline that is filled, or a scribble or a lasso for the model.
class Line {
  constructor(app, done, closed) {
    this.app = app;
    this.done = done;
    this.closed = closed;
    this.line = null;
  }

  down(plane, at, event) {
    this.plane = plane;
    this.positive = !event.altKey && !event.shiftKey;
    this.line = [[at.u, at.v]];
    this.voxels = [at.voxel];
  }

  move(plane, at) {
    if (!this.line || plane !== this.plane) return;
    this.line.push([at.u, at.v]);
    this.voxels.push(...walk(this.voxels.at(-1), at.voxel));
    this.app.redraw();
  }

  up(plane) {
    if (this.line) this.done(plane, this.line, this.voxels, this.positive);
    this.line = null;
    this.app.redraw();
  }

  draw(plane, pen) {
    if (!this.line || plane !== this.plane) return;
    pen.lineWidth = 2;
    pen.strokeStyle = this.positive ? `rgb(${this.app.color(this.app.classValue).join(" ")})` : "#ff8b8b";
    plane.line(pen, this.line, this.closed);
  }
}

class Point {
  constructor(app) { this.app = app; }
  down(plane, at, event) {
    if (!at.inside) return;
    this.app.moveToVoxel(at.voxel);
    this.app.prompts.add({ kind: "point", position: at.voxel, positive: !event.altKey && !event.shiftKey, ...plane.slice });
  }
  move() {}
  up() {}
}

class Box {
  constructor(app) { this.app = app; }

  down(plane, at, event) {
    this.plane = plane;
    this.positive = !event.altKey && !event.shiftKey;
    this.from = at.voxel;
    this.to = at.voxel;
  }

  move(plane, at) {
    if (!this.from || plane !== this.plane) return;
    this.to = at.voxel;
    this.app.redraw();
  }

  up(plane) {
    if (!this.from) return;
    const [lower, upper] = this.corners();
    this.from = null;
    if ([plane.across, plane.down].every((axis) => upper[axis] - lower[axis] > 1)) {
      this.app.prompts.add({ kind: "box", lower, upper, positive: this.positive, ...plane.slice });
    }
    this.app.redraw();
  }

  corners() {
    const lower = this.from.map((value, axis) => Math.min(value, this.to[axis]));
    const upper = this.from.map((value, axis) => Math.max(value, this.to[axis]) + 1);
    return [lower, upper];
  }

  draw(plane, pen) {
    if (!this.from || plane !== this.plane) return;
    const [lower, upper] = this.corners();
    const [x0, y0] = plane.toCanvas(lower[plane.across], lower[plane.down]);
    const [x1, y1] = plane.toCanvas(upper[plane.across], upper[plane.down]);
    pen.lineWidth = 2;
    pen.strokeStyle = this.positive ? "#7df0b0" : "#ff8b8b";
    pen.strokeRect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
  }
}

function paintOutline(app) {
  return (plane, line) => {
    const { labels, meta } = app.doc;
    const edit = labels.begin("outline");
    const start = app.doc.place[plane.axis] * labels.strides[plane.axis];
    const [w, h] = plane.size;
    fillOutline(line, h, (row, first, last) => {
      for (let column = Math.max(0, first); column <= Math.min(w - 1, last); column += 1) {
        app.put(edit, start + row * labels.strides[plane.down] + column * labels.strides[plane.across], app.classValue);
      }
    });
    if (!app.keep(edit)) app.notify(`The outline holds no voxel of ${meta.id}.`);
  };
}

function promptLine(app, kind) {
  return (plane, line, voxels, positive) => {
    const [w, h] = plane.size;
    const vertices = line.map(([u, v]) => [Math.min(Math.max(0, u), w), Math.min(Math.max(0, v), h)]);
    app.prompts.add({ kind, positive, line, ...plane.slice, ...(kind === "scribble" ? { voxels } : { vertices }) });
  };
}

// Tools by name; those of `NEEDS_MODEL` answer with a model.
export const NEEDS_MODEL = new Set(["point", "box", "scribble", "lasso"]);

export function createTools(app) {
  return {
    navigate: new Navigate(),
    brush: new Brush(app, false),
    eraser: new Brush(app, true),
    outline: new Line(app, paintOutline(app), true),
    point: new Point(app),
    box: new Box(app),
    scribble: new Line(app, promptLine(app, "scribble"), false),
    lasso: new Line(app, promptLine(app, "lasso"), true),
  };
}
