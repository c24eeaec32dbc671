"use strict";
// NiiVue's slices and 3D view of a volume. Defines medsegNiivue.
(() => {
  const HEADER = 352;
  const LABEL = 1002; // NIFTI_INTENT_LABEL

  // A NIfTI-1 file of uint8 voxels, with RAS axes.
  function nifti(volume, voxels, intent) {
    const file = new ArrayBuffer(HEADER + voxels.length);
    const view = new DataView(file);
    view.setInt32(0, 348, true);
    [3, ...volume.shape, 1, 1, 1, 1].forEach((size, index) => view.setInt16(40 + 2 * index, size, true));
    view.setInt16(68, intent, true);
    view.setInt16(70, 2, true); // uint8
    view.setInt16(72, 8, true);
    [1, ...volume.spacing].forEach((size, index) => view.setFloat32(76 + 4 * index, size, true));
    view.setFloat32(108, HEADER, true);
    view.setFloat32(112, 1, true);
    view.setUint8(123, 2); // mm
    view.setInt16(254, 1, true);
    for (let axis = 0; axis < 3; axis += 1) {
      view.setFloat32(280 + 16 * axis + 4 * axis, volume.spacing[axis], true);
      view.setFloat32(280 + 16 * axis + 12, volume.origin[axis], true);
    }
    [0x6e, 0x2b, 0x31, 0].forEach((byte, index) => view.setUint8(344 + index, byte));
    new Uint8Array(file).set(voxels, HEADER);
    return file;
  }

  function colormap(table) {
    const map = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    for (const { value, name, color } of table) {
      if (value === 0) continue;
      map.R.push(color[0]);
      map.G.push(color[1]);
      map.B.push(color[2]);
      map.A.push(255);
      map.I.push(value);
      map.labels.push(name);
    }
    return map;
  }

  class NiivueView {
    constructor(element) {
      this.canvas = element.querySelector("canvas");
      this.layers = {};
      this.ready = null;
    }

    async start() {
      this.nv = new globalThis.niivue.Niivue({
        backColor: [0, 0, 0, 1], show3Dcrosshair: true, isRadiologicalConvention: true, multiplanarShowRender: 1,
        multiplanarLayout: 2, multiplanarEqualSize: true, sagittalNoseLeft: true, renderOverlayBlend: 1,
        crosshairColor: [1, 1, 1, 0.6], crosshairWidth: 0.4, crosshairWidthUnit: "percent",
        fontColor: [1, 1, 1, 1], dragAndDropEnabled: false, logLevel: "silent", loadingText: "",
      });
      // nearly transparent in 3D, so that labels are seen through the image
      this.nv.addColormap("medseg", { R: [0, 255], G: [0, 255], B: [0, 255], A: [0, 10], I: [0, 255] });
      await this.nv.attachToCanvas(this.canvas);
      this.nv.setSliceType(this.nv.sliceTypeMultiplanar);
    }

    async show(volume, shown, opacity) {
      if (!this.ready) this.ready = this.start();
      await this.ready;
      while (this.nv.volumes.length) this.nv.removeVolume(this.nv.volumes[0]);
      this.layers = {};
      const { NVImage } = globalThis.niivue;
      const gray = volume.image || new Uint8Array(volume.shape.reduce((a, b) => a * b));
      const image = await NVImage.new(nifti(volume, gray, 0), "image.nii", "medseg", 1, null, 0, 255);
      this.nv.addVolume(image);
      const errors = [["missed", 1], ["extra", 2], ["other label", 3]].map(([name, value]) => (
        { name, value, color: globalThis.medsegSlices.ERRORS[value] }));
      const tables = { prediction: volume.labels, reference: volume.labels, errors };
      for (const [layer, table] of Object.entries(tables)) {
        if (!volume[layer]) continue;
        const voxels = volume[layer].map((value) => (value === globalThis.medsegSlices.IGNORED ? 0 : value));
        const map = await NVImage.new(nifti(volume, voxels, LABEL), `${layer}.nii`, "gray", 0);
        map.setColormapLabel(colormap(table));
        this.nv.addVolume(map);
        this.layers[layer] = map;
      }
      this.nv.scene.crosshairPos = this.nv.vox2frac(volume.focus);
      this.apply(shown, opacity);
    }

    apply(shown, opacity) {
      for (const [layer, map] of Object.entries(this.layers)) {
        this.nv.setOpacity(this.nv.volumes.indexOf(map), shown[layer] ? opacity : 0);
      }
      this.nv.updateGLVolume();
    }
  }

  globalThis.medsegNiivue = { NiivueView };
})();
