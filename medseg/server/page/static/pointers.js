// Mouse, pen and touch in the planes: tools, windowing, panning, the wheel.
import { NEEDS_MODEL } from "./tools.js";

const CLICK = 4; // pixels that a click may move

// Use the tool at the crosshair, as a click there would. A box takes two: its corners.
let corner = null;

export function useTool(app, plane, negative) {
  const at = plane.atCross();
  const event = { altKey: negative, shiftKey: false };
  const { tool } = app;
  if (app.toolName === "box" && corner === null) {
    corner = at;
    app.notify("First corner of the box. Move the crosshair and press Space again.");
    return;
  }
  if (["outline", "lasso", "scribble"].includes(app.toolName)) {
    app.notify("This tool needs a pointer. With keys, use the brush, a click or a box.");
    return;
  }
  tool.down(plane, app.toolName === "box" ? corner : at, event);
  tool.move(plane, at, event);
  tool.up(plane, at, event);
  corner = null;
}

export function connectPointers(app) {
  app.planes.forEach((plane) => connect(app, plane));
}

function connect(app, plane) {
  const { canvas } = plane;
  let gesture = null;

  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("focus", () => {
    app.active = plane;
    app.redraw();
  });
  canvas.addEventListener("pointerdown", (event) => {
    if (!app.doc || gesture) return;
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const isPan = event.button === 1 || (event.button === 0 && (event.ctrlKey || event.metaKey));
    const kind = isPan ? "pan" : event.button === 2 ? "window" : "tool";
    gesture = { kind, id: event.pointerId, x: event.clientX, y: event.clientY, moved: 0, window: { ...app.display.window } };
    if (kind === "tool") app.tool.down(plane, plane.locate(event), event);
    event.preventDefault();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!app.doc) return;
    const at = plane.locate(event);
    if (at.inside && !gesture) app.view.showReadout(app, at.voxel);
    app.tool.hovered?.(plane, at);
    if (!gesture || gesture.id !== event.pointerId) return;
    const [dx, dy] = [event.clientX - gesture.x, event.clientY - gesture.y];
    gesture.moved = Math.max(gesture.moved, Math.hypot(dx, dy));
    if (gesture.kind === "tool") {
      for (const one of event.getCoalescedEvents?.() ?? []) app.tool.move(plane, plane.locate(one), event);
      app.tool.move(plane, at, event);
    } else if (gesture.kind === "pan") {
      plane.panBy(event.movementX, event.movementY);
    } else if (gesture.moved > CLICK) drag(app, gesture.window, dx, dy);
  });
  const finish = (event) => {
    if (!gesture || gesture.id !== event.pointerId) return;
    const { kind, moved } = gesture;
    gesture = null;
    if (kind === "tool") app.tool.up(plane, plane.locate(event), event);
    else if (kind === "window" && moved <= CLICK && NEEDS_MODEL.has(app.toolName) && event.type === "pointerup") {
      app.tools.point.down(plane, plane.locate(event), { altKey: true, shiftKey: false });
    }
  };
  canvas.addEventListener("pointerup", finish);
  canvas.addEventListener("pointercancel", finish);
  canvas.addEventListener("pointerleave", () => app.doc && app.tool.hovered?.(plane, null));
  canvas.addEventListener("wheel", (event) => {
    if (!app.doc) return;
    event.preventDefault();
    if (event.ctrlKey || event.metaKey || app.doc.meta.shape[plane.axis] === 1) plane.zoomBy(Math.exp(-event.deltaY / 400), event);
    else if (event.deltaY) app.moveTo(plane.axis, app.doc.place[plane.axis] - Math.sign(event.deltaY));
  }, { passive: false });
}

// The width grows to the right, the level downwards, as in most viewers: a picture gets darker when dragged down.
function drag(app, { low, high }, dx, dy) {
  const width = Math.max(high - low, 1e-6);
  const level = (low + high) / 2 + (dy * width) / 400;
  const wide = width * Math.exp(dx / 250);
  app.setWindow(level - wide / 2, level + wide / 2);
}
