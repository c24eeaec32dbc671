"use strict";
// The viewer: unpacks the volumes of the page and connects the controls with the views.
(() => {
  const root = document.querySelector(".volume-viewer");
  if (!root) return;
  const { Slices } = globalThis.medsegSlices;
  const volumes = [...document.querySelectorAll("script.medseg-volume")];
  const select = root.querySelector(".vv-case select");
  const status = root.querySelector(".vv-status");
  const layers = [...root.querySelectorAll("[data-layer]")];
  const slices = new Slices(root.querySelector(".vv-planes"));
  const unpacked = new Map();
  let mode = "slices";
  const packed = document.querySelector('script.deferred-script[data-name="niivue"]');
  let started = null;
  let current = null;

  async function unpack(text) {
    if (text === null) return null;
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // NiiVue is large: it is unpacked and started when its view is chosen for the first time.
  async function start() {
    if (!document.createElement("canvas").getContext("webgl2")) throw new Error("the browser has no WebGL 2");
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(await unpack(packed.textContent));
    document.body.append(script);
    if (!globalThis.niivue) throw new Error("its script did not start");
    return new globalThis.medsegNiivue.NiivueView(root.querySelector(".vv-niivue"));
  }

  function errors(reference, prediction) {
    if (!reference || !prediction) return null;
    const { IGNORED } = globalThis.medsegSlices;
    return reference.map((value, index) => {
      const other = prediction[index];
      if (value === other || value === IGNORED) return 0;
      if (other === 0) return 1;
      return value === 0 ? 2 : 3;
    });
  }

  async function load(index) {
    if (unpacked.has(index)) return unpacked.get(index);
    const volume = JSON.parse(volumes[index].textContent);
    for (const key of ["image", "reference", "prediction"]) volume[key] = await unpack(volume[key]);
    volume.errors = errors(volume.reference, volume.prediction);
    volume.colors = [];
    for (const { value, color } of volume.labels) volume.colors[value] = color;
    unpacked.clear(); // one volume in memory
    unpacked.set(index, volume);
    return volume;
  }

  function list(volume) {
    const legend = root.querySelector(".vv-legend");
    legend.replaceChildren();
    const { ERRORS } = globalThis.medsegSlices;
    const entries = volume.labels.map(({ name, color }) => [name, color]);
    if (volume.errors && slices.shown.errors) ["missed", "extra", "other label"].forEach((name, i) => entries.push([`error: ${name}`, ERRORS[i + 1]]));
    for (const [name, color] of entries) {
      const item = document.createElement("li");
      const box = document.createElement("span");
      box.style.cssText = `display:inline-block;width:12px;height:12px;border-radius:2px;vertical-align:-1px;border:1px solid #808080;box-sizing:border-box;background:rgb(${color.join(",")})`;
      item.append(box, ` ${name}`);
      legend.append(item);
    }
  }

  async function draw() {
    if (!current) return;
    if (mode === "niivue") {
      try {
        started ??= start();
        const niivue = await started;
        if (mode !== "niivue") return;
        if (niivue.volume !== current) await niivue.show(current, slices.shown, slices.opacity);
        else niivue.apply(slices.shown, slices.opacity);
        niivue.volume = current;
        root.dataset.ready = `niivue ${current.name}`;
      } catch (error) {
        status.textContent = `The 3D view is not available here (${error.message}); slices are shown.`;
        root.querySelector(".vv-modes").hidden = true;
        setMode("slices");
      }
      return;
    }
    slices.draw();
    root.dataset.ready = `slices ${current.name}`;
  }

  async function show(index) {
    const volume = await load(index);
    if (index !== select.selectedIndex) return; // another case was chosen meanwhile
    current = volume;
    for (const box of layers) {
      box.disabled = !volume[box.dataset.layer];
      box.closest("label").hidden = box.disabled;
    }
    list(volume);
    status.textContent = volume.note ? `${volume.name}: ${volume.note}.` : "";
    slices.show(volume);
    await draw();
  }

  function setMode(chosen) {
    mode = chosen;
    root.querySelector(".vv-planes").hidden = mode !== "slices";
    root.querySelector(".vv-niivue").hidden = mode !== "niivue";
    for (const help of root.querySelectorAll(".vv-help")) help.hidden = help.dataset.for !== mode;
    for (const button of root.querySelectorAll("[data-mode]")) {
      button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    }
    draw();
  }

  function connect() {
    select.addEventListener("change", () => show(select.selectedIndex));
    for (const box of layers) {
      box.addEventListener("change", () => {
        slices.shown[box.dataset.layer] = box.checked;
        if (current) list(current);
        draw();
      });
    }
    root.querySelector(".vv-opacity").addEventListener("input", (event) => {
      slices.opacity = Number(event.target.value) / 100;
      draw();
    });
    root.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || event.target.tagName === "SELECT") return;
      const box = layers.find((one) => one.dataset.layer[0] === event.key && !one.disabled);
      if (box) box.click();
    });
    document.addEventListener("click", (event) => {
      const name = event.target.closest?.("[data-show-volume]")?.dataset.showVolume;
      const index = [...select.options].findIndex((option) => option.text === name);
      if (name === undefined || index < 0) return;
      select.selectedIndex = index;
      show(index);
      root.scrollIntoView({ block: "start" });
      root.querySelector("canvas").focus({ preventScroll: true });
    });
    for (const button of root.querySelectorAll("[data-mode]")) {
      button.addEventListener("click", () => setMode(button.dataset.mode));
    }
  }

  if (typeof DecompressionStream === "undefined") {
    status.textContent = "This browser is too old for the viewer: it lacks DecompressionStream.";
    return;
  }
  connect();
  status.textContent = "";
  root.querySelector(".vv-case").hidden = volumes.length < 2;
  root.querySelector(".vv-modes").hidden = !(packed && globalThis.WebGL2RenderingContext);
  // Volumes are unpacked when the viewer comes near the window, so that the page loads fast.
  const first = () => { if (!current) show(select.selectedIndex); };
  if (typeof IntersectionObserver === "undefined") {
    first();
    return;
  }
  const watcher = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    first();
  }, { rootMargin: "400px" });
  watcher.observe(root);
})();
