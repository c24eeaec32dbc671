// Settings of OHIF, and a button that saves the segmentation that it shows. Served as /ohif/app-config.js.
(() => {
  "use strict";
  const proxy = "/proxy/dicom";
  document.cookie = `MONAILABEL_SERVER_URL=${escape(`${location.origin}/`)}; path=/ohif; samesite=strict`;

  const settings = {
    routerBasename: "/ohif/",
    showStudyList: true,
    extensions: [],
    modes: [],
    showWarningMessageForCrossOrigin: true,
    showCPUFallbackMessage: true,
    showLoadingIndicator: true,
    strictZSpacingForVolumeViewport: true,
    useSharedArrayBuffer: "FALSE",
    defaultDataSourceName: "dicomweb",
    dataSources: [
      {
        namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
        sourceName: "dicomweb",
        configuration: {
          friendlyName: "medseg",
          name: "medseg",
          wadoUriRoot: `${proxy}/wado`,
          qidoRoot: `${proxy}/qido`,
          wadoRoot: `${proxy}/wado`,
          qidoSupportsIncludeField: true,
          supportsReject: false,
          imageRendering: "wadors",
          thumbnailRendering: "wadors",
          enableStudyLazyLoad: false,
          supportsFuzzyMatching: true,
          supportsWildcard: true,
          dicomUploadEnabled: false,
          bulkDataURI: { enabled: true },
        },
      },
    ],
  };

  let services = null;

  /** The segmentation that is shown, with its voxels and its series; null without one. */
  function shown() {
    const { segmentationService, displaySetService, viewportGridService } = services;
    const { activeViewportId } = viewportGridService.getState();
    const active = activeViewportId && segmentationService.getActiveSegmentation(activeViewportId);
    const all = segmentationService.getSegmentations();
    for (const segmentation of active ? [active, ...all] : all) {
      const volume = segmentationService.getLabelmapVolume(segmentation.segmentationId);
      const { referencedVolumeId } = segmentation.representationData.Labelmap ?? {};
      const image = displaySetService
        .getActiveDisplaySets()
        .find((one) => referencedVolumeId?.includes(one.displaySetInstanceUID));
      if (image && volume?.voxelManager) return { segmentation, volume, series: image.SeriesInstanceUID };
    }
    return null;
  }

  function isShown() {
    try {
      return shown() !== null;
    } catch {
      return false; // OHIF's services are not ready
    }
  }

  async function save() {
    const { segmentation, volume, series } = shown();
    const values = Uint8Array.from(volume.voxelManager.getCompleteScalarDataArray());
    const present = new Set(values);
    const segments = Object.values(segmentation.segments ?? segmentation.config?.segments ?? {});
    const named = segments.filter((one) => one && present.has(one.segmentIndex));
    const form = new FormData();
    const names = named.map((one) => ({ name: one.label, idx: one.segmentIndex }));
    form.append("params", JSON.stringify({ label_info: names }));
    form.append("label", new Blob([values]), "label.bin");
    const reply = await fetch(`/datastore/label?image=${encodeURIComponent(series)}`, { method: "PUT", body: form });
    const content = await reply.json();
    if (!reply.ok) throw new Error(content.detail);
    return content;
  }

  function show(message, type) {
    services.uiNotificationService.show({ title: "medseg", message, type, duration: 5000 });
  }

  async function clicked(button) {
    button.disabled = true;
    try {
      const { version, sent } = await save();
      if (sent === false) show("Saved; the DICOMweb service did not accept it", "warning");
      else show(`Saved (version ${version})`, "success");
    } catch (error) {
      show(`Not saved: ${error.message}`, "error");
    } finally {
      button.disabled = false;
    }
  }

  function addButton() {
    const button = document.createElement("button");
    button.id = "medseg-save";
    button.textContent = "Save label";
    button.title = "Save this segmentation as label of the series";
    button.style.cssText =
      "position:fixed;right:16px;bottom:16px;z-index:1000;padding:8px 16px;border-radius:4px;" +
      "background:#0944b3;color:#fff;font:14px sans-serif;";
    button.hidden = true;
    button.addEventListener("click", () => clicked(button));
    document.body.append(button);
    setInterval(() => (button.hidden = !isShown()), 500);
  }

  function configure({ servicesManager }) {
    services = servicesManager.services;
    addButton();
    return settings;
  }
  window.config = Object.assign(configure, settings);
})();
