// Requests to the server. Voxels travel as bytes with x fastest; label maps are compressed by gzip.

const BASE = new URL("api/", document.baseURI);
const TYPES = { uint8: Uint8Array, uint16: Uint16Array, int16: Int16Array };

// Names this window, so that the server hands it a case of its own.
const client = sessionStorage.getItem("medseg-client") || `page-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
sessionStorage.setItem("medseg-client", client);

// The server refused a request. `status` is that of HTTP, 0 without an answer; `detail` is the server's JSON.
export class ApiError extends Error {
  constructor(status, message, detail = {}) {
    super(message);
    this.status = status;
    this.detail = detail;
  }
}

async function request(path, { method = "GET", query = {}, body = null, type = "" } = {}) {
  const url = new URL(path, BASE);
  for (const [key, value] of Object.entries(query)) if (value !== null && value !== "") url.searchParams.set(key, value);
  const headers = { "X-Client": client };
  if (type) headers["Content-Type"] = type;
  let answer;
  try {
    answer = await fetch(url, { method, headers, body, cache: "no-store" });
  } catch {
    throw new ApiError(0, "The server does not answer. Is medseg annotate still running?");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) throw new ApiError(401, "Open the address that medseg annotate printed: it holds the token.");
  let detail = {};
  try {
    detail = await answer.json();
  } catch { /* not JSON */ }
  throw new ApiError(answer.status, detail.detail || `The server answered ${answer.status}.`, detail);
}

const json = async (path, options) => (await request(path, options)).json();
const post = (path, content, options = {}) => request(path, {
  method: "POST", body: JSON.stringify(content), type: "application/json", ...options });
const caseUrl = (id) => `cases/${encodeURIComponent(id)}`;

async function through(bytes, stream) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

export const gzip = (bytes) => through(bytes, new CompressionStream("gzip"));
export const gunzip = (bytes) => through(bytes, new DecompressionStream("gzip"));

// A typed array over bytes, or the bytes of a typed array.
export const typed = (bytes, dtype) => new TYPES[dtype](bytes.buffer, bytes.byteOffset, bytes.byteLength / TYPES[dtype].BYTES_PER_ELEMENT);
export const untyped = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
export const emptyLabel = (voxels, dtype) => new TYPES[dtype](voxels);

function base64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 8192) text += String.fromCharCode(...bytes.subarray(start, start + 8192));
  return btoa(text);
}

const labelOf = async (answer) => typed(await gunzip(await answer.arrayBuffer()), answer.headers.get("X-Label-Type"));

async function mask(answer) {
  const [lower, upper] = JSON.parse(answer.headers.get("X-Mask-Box"));
  const size = upper.map((value, axis) => value - lower[axis]);
  return { lower, upper, origin: lower, size, voxels: await gunzip(await answer.arrayBuffer()) };
}

export const api = {
  info: () => json("info"),
  cases: (open = "") => json("cases", { query: { open } }),
  case: (id) => json(caseUrl(id)),
  next: (strategy, after) => json("next", { method: "POST", query: { strategy, after } }),
  addClass: async (name) => (await post("classes", { name })).json(),

  async image(id, query, dtype) {
    return typed(new Uint8Array(await (await request(`${caseUrl(id)}/image`, { query })).arrayBuffer()), dtype);
  },

  // The voxels of a label map and its version; null if the case has none.
  async label(id) {
    const answer = await request(`${caseUrl(id)}/label`);
    if (answer.status === 204) return null;
    return { voxels: await labelOf(answer), version: answer.headers.get("X-Label-Version") };
  },

  async save(id, voxels, query) {
    const body = await gzip(untyped(voxels));
    return json(`${caseUrl(id)}/label`, { method: "PUT", query, body, type: "application/octet-stream" });
  },

  proposal: async (id, model) => labelOf(await request(`${caseUrl(id)}/proposal`, { method: "POST", query: { model } })),

  async openSession(id, model, { axis, index }, first) {
    const packed = first === null ? null : base64(await gzip(first));
    return (await (await post("sessions", { case: id, model, axis, index, mask: packed })).json()).session;
  },
  prompt: async (session, prompt) => mask(await post(`sessions/${session}/prompts`, prompt)),
  undoPrompt: async (session) => mask(await post(`sessions/${session}/undo`, {})),
  closeSession: (session) => request(`sessions/${session}`, { method: "DELETE" }),
};
