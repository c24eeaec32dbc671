// One plane of the open case on a canvas: image, labels, crosshair, prompts; pan, zoom and the place of a pointer.
import { ACROSS, DOWN, extractPlane } from "./images.js";

const TITLES = ["Sagittal", "Coronal", "Axial"];
const STORED = ["YZ", "XZ", "XY"];
const LETTERS = ["APSI", "RLSI", "RLAP"]; // left, right, top, bottom of a plane of a patient

export class Plane {
  // `figure` holds the canvas, the caption and the slider; `app` the open case and the settings of display.
  constructor(figure, app) {
    this.axis = Number(figure.dataset.axis);
    this.figure = figure;
    this.app = app;
    this.canvas = figure.querySelector("canvas");
    this.slider = figure.querySelector("input");
    this.title = figure.querySelector(".title");
    this.across = ACROSS[this.axis];
    this.down = DOWN[this.axis];
    this.buffers = [document.createElement("canvas"), document.createElement("canvas")];
    this.overlay = { key: "", pixels: null };
    this.reset();
    this.slider.addEventListener("input", () => app.moveTo(this.axis, Number(this.slider.value)));
    new ResizeObserver(() => app.redraw()).observe(this.canvas);
  }

  reset() {
    this.zoom = 1;
    this.center = null; // (across, down) in voxels; null: that of the plane
  }

  get size() {
    const { shape } = this.app.doc.meta;
    return [shape[this.across], shape[this.down]];
  }

  // The slice that is shown, as prompts name it.
  get slice() {
    return { axis: this.axis, index: this.app.doc.place[this.axis] };
  }

  // Pixels of the canvas per voxel, with sign, and the pixel of the corner of voxel (0, 0).
  get transform() {
    const { spacing, patient } = this.app.doc.meta;
    const [w, h] = this.size;
    const [mmX, mmY] = [spacing[this.across], spacing[this.down]];
    const { clientWidth, clientHeight } = this.canvas;
    const fit = Math.min(clientWidth / (w * mmX), clientHeight / (h * mmY)) * 0.98;
    const sign = patient ? -1 : 1; // a patient's right is on the left, anterior and superior are at the top
    const [sx, sy] = [sign * fit * this.zoom * mmX, sign * fit * this.zoom * mmY];
    const [cu, cv] = this.center || [w / 2, h / 2];
    return { sx, sy, x: clientWidth / 2 - sx * cu, y: clientHeight / 2 - sy * cv };
  }

  // Position on the canvas (CSS pixels) of a position in the plane (voxels), and the other way round.
  toCanvas(u, v) {
    const { sx, sy, x, y } = this.transform;
    return [x + sx * u, y + sy * v];
  }

  toPlane(canvasX, canvasY) {
    const { sx, sy, x, y } = this.transform;
    return [(canvasX - x) / sx, (canvasY - y) / sy];
  }

  // Where a pointer is: (u, v) in voxels of the plane, the voxel (x, y, z), and whether it is inside.
  locate(event) {
    const box = this.canvas.getBoundingClientRect();
    return this.at(...this.toPlane(event.clientX - box.left, event.clientY - box.top));
  }

  at(u, v) {
    const [w, h] = this.size;
    const voxel = [...this.app.doc.place];
    voxel[this.across] = Math.min(Math.max(0, Math.floor(u)), w - 1);
    voxel[this.down] = Math.min(Math.max(0, Math.floor(v)), h - 1);
    return { u, v, voxel, inside: u >= 0 && v >= 0 && u < w && v < h };
  }

  // The crosshair as the place of a pointer.
  atCross() {
    const { place } = this.app.doc;
    return this.at(place[this.across] + 0.5, place[this.down] + 0.5);
  }

  zoomBy(factor, event = null) {
    const box = this.canvas.getBoundingClientRect();
    const [px, py] = event ? [event.clientX - box.left, event.clientY - box.top] : [box.width / 2, box.height / 2];
    const [u, v] = this.toPlane(px, py);
    this.zoom = Math.min(Math.max(0.2, this.zoom * factor), 60);
    const { sx, sy } = this.transform;
    this.center = [u - (px - box.width / 2) / sx, v - (py - box.height / 2) / sy];
    this.app.redraw();
  }

  panBy(dx, dy) {
    const { sx, sy } = this.transform;
    const [w, h] = this.size;
    const [u, v] = this.center || [w / 2, h / 2];
    this.center = [Math.min(Math.max(0, u - dx / sx), w), Math.min(Math.max(0, v - dy / sy), h)];
    this.app.redraw();
  }

  draw() {
    const { doc } = this.app;
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return;
    const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, clientWidth, clientHeight);
    if (!doc) return;
    this.describe(doc);
    const place = doc.place[this.axis];
    const values = doc.image.plane(this.axis, place);
    if (values) this.paint(pen, this.buffers[0], this.gray(values), this.app.display.smooth);
    else this.write(pen, "loading", clientWidth / 2, clientHeight / 2);
    if (this.app.display.labels) this.paint(pen, this.buffers[1], this.areas(doc), false);
    if (doc.meta.shape.filter((n) => n > 1).length > 2 || this.app.isPlaced) this.cross(pen);
    this.prompts(pen);
    this.app.tool.draw?.(this, pen);
    if (doc.meta.patient) this.letters(pen, clientWidth, clientHeight);
  }

  describe(doc) {
    const place = doc.place[this.axis];
    const number = doc.meta.shape[this.axis];
    const title = (doc.meta.patient ? TITLES : STORED)[this.axis];
    this.slider.max = String(number - 1);
    this.slider.value = String(place);
    this.slider.hidden = number === 1;
    this.title.textContent = number === 1 ? "" : `${title} ${place + 1} / ${number}`;
    this.slider.setAttribute("aria-label", `${title} slice`);
    this.canvas.setAttribute("aria-label", `${doc.meta.id}, ${number === 1 ? "picture" : this.title.textContent}`);
  }

  paint(pen, buffer, pixels, smooth) {
    const [w, h] = this.size;
    if (buffer.width !== w || buffer.height !== h) [buffer.width, buffer.height] = [w, h];
    buffer.getContext("2d").putImageData(new ImageData(pixels, w, h), 0, 0);
    const { sx, sy, x, y } = this.transform;
    pen.save();
    pen.transform(sx, 0, 0, sy, x, y);
    pen.imageSmoothingEnabled = smooth && Math.abs(sx) < 12;
    pen.drawImage(buffer, 0, 0);
    pen.restore();
  }

  gray(values) {
    const { meta, image } = this.app.doc;
    const [w, h] = this.size;
    const pixels = new Uint8ClampedArray(w * h * 4);
    const { low, high } = this.app.display.window;
    const { slope, intercept } = image.scale;
    const factor = (255 * slope) / (high - low);
    const offset = ((intercept - low) * 255) / (high - low);
    for (let i = 0, at = 0; at < pixels.length; at += 4) {
      if (meta.color) {
        pixels[at] = values[i] * factor + offset;
        pixels[at + 1] = values[i + 1] * factor + offset;
        pixels[at + 2] = values[i + 2] * factor + offset;
        i += 3;
      } else {
        const gray = values[i] * factor + offset;
        pixels[at] = gray;
        pixels[at + 1] = gray;
        pixels[at + 2] = gray;
        i += 1;
      }
      pixels[at + 3] = 255;
    }
    return pixels;
  }

  // Labels as colors, with stronger edges; kept until something that they depend on changes.
  areas(doc) {
    const { display } = this.app;
    const key = [doc.meta.id, doc.place[this.axis], doc.labels.revision, this.app.stroke, display.opacity, display.outline,
      display.hidden.size, this.app.classRevision].join(" ");
    if (this.overlay.key === key) return this.overlay.pixels;
    const [w, h] = this.size;
    const plane = extractPlane(doc.labels.voxels, doc.meta.shape, this.axis, doc.place[this.axis]);
    const pixels = new Uint8ClampedArray(w * h * 4);
    const inner = Math.round(display.opacity * (display.outline ? 0 : 255));
    const edge = Math.round(255 * Math.min(1, display.opacity + 0.35));
    for (let i = 0; i < plane.length; i += 1) {
      const value = plane[i];
      if (value === doc.meta.background || display.hidden.has(value)) continue;
      const x = i % w;
      const isEdge = (x > 0 && plane[i - 1] !== value) || (x < w - 1 && plane[i + 1] !== value)
        || (i >= w && plane[i - w] !== value) || (i + w < plane.length && plane[i + w] !== value);
      pixels.set(this.app.color(value), i * 4);
      pixels[i * 4 + 3] = isEdge ? edge : inner;
    }
    this.overlay = { key, pixels };
    return pixels;
  }

  cross(pen) {
    const { place } = this.app.doc;
    const [x, y] = this.toCanvas(place[this.across] + 0.5, place[this.down] + 0.5);
    const { clientWidth: w, clientHeight: h } = this.canvas;
    pen.strokeStyle = this.app.active === this ? "rgba(255,255,255,.6)" : "rgba(255,255,255,.35)";
    pen.lineWidth = 1;
    pen.beginPath();
    for (const [x0, y0, x1, y1] of [[0, y, x - 12, y], [x + 12, y, w, y], [x, 0, x, y - 12], [x, y + 12, x, h]]) {
      pen.moveTo(x0, y0);
      pen.lineTo(x1, y1);
    }
    pen.stroke();
  }

  // Prompts of the open session that lie in this slice.
  prompts(pen) {
    for (const prompt of this.app.prompts.shown) {
      const here = this.app.doc.place[this.axis];
      pen.lineWidth = 2;
      pen.strokeStyle = prompt.positive ? "#7df0b0" : "#ff8b8b";
      if (prompt.kind === "point" && prompt.position[this.axis] === here) {
        const [x, y] = this.toCanvas(prompt.position[this.across] + 0.5, prompt.position[this.down] + 0.5);
        mark(pen, x, y, prompt.positive);
      } else if (prompt.kind === "box" && here >= prompt.lower[this.axis] && here < prompt.upper[this.axis]) {
        const [x0, y0] = this.toCanvas(prompt.lower[this.across], prompt.lower[this.down]);
        const [x1, y1] = this.toCanvas(prompt.upper[this.across], prompt.upper[this.down]);
        pen.strokeRect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
      } else if (prompt.line && prompt.axis === this.axis && prompt.index === here) {
        this.line(pen, prompt.line, prompt.kind === "lasso");
      }
    }
  }

  // A line through positions of the plane.
  line(pen, positions, closed) {
    pen.beginPath();
    positions.forEach(([u, v]) => pen.lineTo(...this.toCanvas(u, v)));
    if (closed) pen.closePath();
    pen.stroke();
  }

  letters(pen, w, h) {
    pen.font = "600 12px system-ui, sans-serif";
    const spots = [[8, h / 2], [w - 8, h / 2], [w / 2, 10], [w / 2, h - 10]];
    spots.forEach(([x, y], index) => this.write(pen, LETTERS[this.axis][index], x, y));
  }

  write(pen, text, x, y) {
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineWidth = 3;
    pen.strokeStyle = "rgba(0,0,0,.8)";
    pen.fillStyle = "#d5dbe1";
    pen.strokeText(text, x, y);
    pen.fillText(text, x, y);
  }
}

function mark(pen, x, y, positive) {
  pen.beginPath();
  pen.fillStyle = positive ? "#00694c" : "#a11d1d";
  pen.arc(x, y, 7, 0, 2 * Math.PI);
  pen.fill();
  pen.stroke();
  pen.beginPath();
  pen.moveTo(x - 3.5, y);
  pen.lineTo(x + 3.5, y);
  if (positive) {
    pen.moveTo(x, y - 3.5);
    pen.lineTo(x, y + 3.5);
  }
  pen.strokeStyle = "#fff";
  pen.stroke();
}
