// The voxels of an image: in memory if it is small, otherwise plane by plane from the server.
import { api } from "./api.js";

const CACHE_BYTES = 256e6;

// Axes of a plane: the axis it is perpendicular to → the axes across and down.
export const ACROSS = [1, 0, 0];
export const DOWN = [2, 2, 1];

// Copy a plane out of voxels with x fastest and `samples` values per voxel.
export function extractPlane(voxels, shape, axis, index, samples = 1) {
  const strides = [1, shape[0], shape[0] * shape[1]];
  const [w, h] = [shape[ACROSS[axis]], shape[DOWN[axis]]];
  const [sa, sd] = [strides[ACROSS[axis]], strides[DOWN[axis]]];
  const start = index * strides[axis];
  if (axis === 2) return voxels.subarray(start * samples, (start + w * h) * samples);
  const plane = new voxels.constructor(w * h * samples);
  for (let row = 0, at = 0; row < h; row += 1) {
    let from = start + row * sd;
    for (let column = 0; column < w; column += 1, from += sa) {
      for (let s = 0; s < samples; s += 1, at += 1) plane[at] = voxels[from * samples + s];
    }
  }
  return plane;
}

export class ImageSource {
  constructor(meta, channel, onLoad, onError) {
    this.meta = meta;
    this.channel = channel;
    this.onLoad = onLoad;
    this.onError = onError;
    this.samples = meta.color ? 3 : 1;
    this.scale = meta.scales[channel]; // the image's value is slope * stored + intercept
    this.whole = null;
    this.planes = new Map();
    this.bytes = 0;
    this.pending = new Map();
  }

  async start() {
    if (!this.meta.whole) return;
    this.whole = await api.image(this.meta.id, { channel: this.channel }, this.scale.dtype);
  }

  // The values of a plane, or null while it is on its way.
  plane(axis, index) {
    if (this.whole) return extractPlane(this.whole, this.meta.shape, axis, index, this.samples);
    const key = `${axis} ${index}`;
    const known = this.planes.get(key);
    if (known) {
      this.planes.delete(key); // the most recently used ones are last
      this.planes.set(key, known);
    } else this.fetch(axis, index);
    for (const near of [index + 1, index - 1]) {
      if (known && near >= 0 && near < this.meta.shape[axis] && !this.planes.has(`${axis} ${near}`)) this.fetch(axis, near);
    }
    return known || null;
  }

  async fetch(axis, index) {
    const key = `${axis} ${index}`;
    if (this.pending.has(key) || this.pending.size > 8) return;
    this.pending.set(key, true);
    try {
      const plane = await api.image(this.meta.id, { channel: this.channel, axis, index }, this.scale.dtype);
      this.planes.set(key, plane);
      this.bytes += plane.byteLength;
      for (const [old, values] of this.planes) {
        if (this.bytes <= CACHE_BYTES) break;
        this.planes.delete(old);
        this.bytes -= values.byteLength;
      }
    } catch (error) {
      this.onError(error);
      return; // stays pending: a plane that cannot be read is not requested again and again
    }
    this.pending.delete(key);
    this.onLoad();
  }
}
