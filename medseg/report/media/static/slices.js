"use strict";
// Three planes of a volume on canvases: slices, crosshair, wheel and keys. Defines medsegSlices.
(() => {
  const PLANES = { 2: ["axial", "z", "RLAP"], 1: ["coronal", "y", "RLSI"], 0: ["sagittal", "x", "APSI"] };
  const ERRORS = [null, [195, 0, 195], [150, 225, 150], [120, 70, 0]]; // missed, extra, other label: as in error_map.py
  const IGNORED = 255;
  const SIDE = 512; // pixels of the longer side of a canvas

  class Plane {
    constructor(figure, owner) {
      this.axis = Number(figure.dataset.axis);
      this.owner = owner;
      this.canvas = figure.querySelector("canvas");
      this.slider = figure.querySelector("input");
      this.caption = figure.querySelector("figcaption");
      this.across = this.axis === 0 ? 1 : 0;
      this.down = this.axis === 2 ? 1 : 2;
      this.buffer = document.createElement("canvas");
      this.slider.addEventListener("input", () => owner.move(this.axis, Number(this.slider.value)));
      this.canvas.addEventListener("click", (event) => this.click(event));
      this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      this.canvas.addEventListener("keydown", (event) => this.key(event));
    }

    fit(volume) {
      const width = volume.shape[this.across] * volume.spacing[this.across];
      const height = volume.shape[this.down] * volume.spacing[this.down];
      const scale = SIDE / Math.max(width, height);
      this.canvas.width = Math.max(16, Math.round(width * scale));
      this.canvas.height = Math.max(16, Math.round(height * scale));
      this.buffer.width = volume.shape[this.across];
      this.buffer.height = volume.shape[this.down];
      this.slider.max = String(volume.shape[this.axis] - 1);
    }

    click(event) {
      const { volume } = this.owner;
      if (!volume) return;
      const box = this.canvas.getBoundingClientRect();
      const pick = (share, axis) => volume.shape[axis] - 1 - Math.floor(share * volume.shape[axis]);
      this.owner.move(this.across, pick((event.clientX - box.left) / box.width, this.across));
      this.owner.move(this.down, pick((event.clientY - box.top) / box.height, this.down));
    }

    wheel(event) {
      if (document.activeElement !== this.canvas) return; // the page scrolls until the plane is selected
      event.preventDefault();
      this.owner.move(this.axis, this.owner.place[this.axis] + (event.deltaY > 0 ? 1 : -1));
    }

    key(event) {
      const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 };
      const { place, volume } = this.owner;
      if (!volume || event.ctrlKey || event.altKey || event.metaKey) return;
      if (event.key in steps) this.owner.move(this.axis, place[this.axis] + steps[event.key]);
      else if (event.key === "Home") this.owner.move(this.axis, 0);
      else if (event.key === "End") this.owner.move(this.axis, volume.shape[this.axis] - 1);
      else return;
      event.preventDefault();
    }

    draw() {
      const { volume, place } = this.owner;
      const [title, letter, letters] = PLANES[this.axis];
      this.slider.value = String(place[this.axis]);
      this.caption.textContent = `${title}, ${letter} = ${volume.start[this.axis] + volume.stride[this.axis] * place[this.axis]}`;
      this.canvas.setAttribute("aria-label", `${volume.name}, ${this.caption.textContent}`);
      const pen = this.canvas.getContext("2d");
      const ink = this.buffer.getContext("2d");
      const { width, height } = this.canvas;
      const paint = (colors, smooth) => {
        ink.putImageData(new ImageData(colors, this.buffer.width, this.buffer.height), 0, 0);
        pen.imageSmoothingEnabled = smooth;
        pen.drawImage(this.buffer, 0, 0, width, height);
      };
      pen.fillStyle = "#000";
      pen.fillRect(0, 0, width, height);
      if (volume.image) paint(this.gray(volume), true);
      this.paintLabels(pen, paint);
      this.cross(pen);
      this.letters(pen, letters);
    }

    paintLabels(pen, paint) {
      const { volume, shown, opacity } = this.owner;
      if (shown.prediction && volume.prediction) paint(this.areas(volume.prediction, volume.colors, opacity), false);
      if (shown.errors && volume.errors) paint(this.areas(volume.errors, ERRORS, Math.max(opacity, 0.6)), false);
      if (shown.reference && volume.reference) this.outlines(pen, volume.reference, volume.colors);
    }

    // Calls use(pixel, voxel) for every pixel; both axes of a plane are flipped for display.
    walk(use) {
      const { volume, place } = this.owner;
      const strides = [1, volume.shape[0], volume.shape[0] * volume.shape[1]];
      const [w, h] = [volume.shape[this.across], volume.shape[this.down]];
      const start = place[this.axis] * strides[this.axis];
      for (let row = 0, pixel = 0; row < h; row += 1) {
        const line = start + (h - 1 - row) * strides[this.down];
        for (let column = 0; column < w; column += 1, pixel += 1) use(pixel, line + (w - 1 - column) * strides[this.across]);
      }
    }

    gray(volume) {
      const colors = new Uint8ClampedArray(this.buffer.width * this.buffer.height * 4);
      this.walk((pixel, voxel) => {
        colors.fill(volume.image[voxel], pixel * 4, pixel * 4 + 3);
        colors[pixel * 4 + 3] = 255;
      });
      return colors;
    }

    areas(labels, table, opacity) {
      const colors = new Uint8ClampedArray(this.buffer.width * this.buffer.height * 4);
      this.walk((pixel, voxel) => {
        const color = table[labels[voxel]];
        if (!color) return;
        colors.set(color, pixel * 4);
        colors[pixel * 4 + 3] = Math.round(255 * opacity);
      });
      return colors;
    }

    // Lines between pixels of different labels, in the color of the label on the one side or on the other.
    outlines(pen, labels, table) {
      const [w, h] = [this.buffer.width, this.buffer.height];
      const [sx, sy] = [this.canvas.width / w, this.canvas.height / h];
      const plane = new Uint8Array(w * h);
      this.walk((pixel, voxel) => { plane[pixel] = labels[voxel]; });
      const paths = new Map();
      const line = (label, x0, y0, x1, y1) => {
        if (!table[label]) return;
        if (!paths.has(label)) paths.set(label, new Path2D());
        paths.get(label).moveTo(x0 * sx, y0 * sy);
        paths.get(label).lineTo(x1 * sx, y1 * sy);
      };
      for (let y = 0; y < h; y += 1) {
        for (let x = 0; x < w; x += 1) {
          const here = plane[y * w + x];
          const right = x + 1 < w ? plane[y * w + x + 1] : here;
          const below = y + 1 < h ? plane[(y + 1) * w + x] : here;
          if (right !== here) line(table[here] ? here : right, x + 1, y, x + 1, y + 1);
          if (below !== here) line(table[here] ? here : below, x, y + 1, x + 1, y + 1);
        }
      }
      pen.lineWidth = 2;
      for (const [label, path] of paths) {
        pen.strokeStyle = `rgb(${table[label].join(",")})`;
        pen.stroke(path);
      }
    }

    cross(pen) {
      const { volume, place } = this.owner;
      const { width, height } = this.canvas;
      const at = (axis, size) => (1 - (place[axis] + 0.5) / volume.shape[axis]) * size;
      const [x, y] = [at(this.across, width), at(this.down, height)];
      pen.strokeStyle = "rgba(255,255,255,0.75)";
      pen.lineWidth = 1.5;
      pen.beginPath();
      for (const [x0, y0, x1, y1] of [[0, y, x - 14, y], [x + 14, y, width, y], [x, 0, x, y - 14], [x, y + 14, x, height]]) {
        pen.moveTo(x0, y0);
        pen.lineTo(x1, y1);
      }
      pen.globalAlpha = 0.6;
      pen.stroke();
      pen.globalAlpha = 1;
    }

    letters(pen, letters) {
      const { width, height } = this.canvas;
      pen.font = "bold 18px sans-serif";
      pen.lineWidth = 3;
      pen.strokeStyle = "#000";
      pen.fillStyle = "#fff";
      const spots = [[6, height / 2, "left", "middle"], [width - 6, height / 2, "right", "middle"],
        [width / 2, 4, "center", "top"], [width / 2, height - 4, "center", "bottom"]];
      spots.forEach(([x, y, align, baseline], index) => {
        pen.textAlign = align;
        pen.textBaseline = baseline;
        pen.strokeText(letters[index], x, y);
        pen.fillText(letters[index], x, y);
      });
    }
  }

  class Slices {
    constructor(element) {
      this.shown = { reference: true, prediction: true, errors: false };
      this.opacity = 0.4;
      this.place = [0, 0, 0];
      this.volume = null;
      this.planes = [...element.querySelectorAll("figure")].map((figure) => new Plane(figure, this));
    }

    show(volume) {
      this.volume = volume;
      this.place = [...volume.focus];
      this.planes.forEach((plane) => plane.fit(volume));
      this.draw();
    }

    move(axis, index) {
      if (!this.volume) return;
      this.place[axis] = Math.min(Math.max(0, index), this.volume.shape[axis] - 1);
      this.draw();
    }

    draw() {
      if (this.volume) this.planes.forEach((plane) => plane.draw());
    }
  }

  globalThis.medsegSlices = { Slices, ERRORS, IGNORED };
})();
