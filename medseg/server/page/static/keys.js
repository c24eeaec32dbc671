// The keys of the page, and the list of them in the help.

const TOOLS = [
  ["navigate", "V", "Navigate", "Move the crosshair"],
  ["brush", "B", "Brush", "Paint the selected class"],
  ["eraser", "E", "Eraser", "Erase labels"],
  ["outline", "O", "Outline", "Draw a closed line and fill it"],
  ["point", "C", "Click", "Click on the object; with Alt or Shift, on what does not belong to it"],
  ["box", "X", "Box", "Draw a box around the object"],
  ["scribble", "M", "Scribble", "Draw a line inside the object; with Alt or Shift, outside"],
  ["lasso", "K", "Lasso", "Draw a closed line around the object"],
];

export { TOOLS };

// [keys, what they do (empty: part of the row before), action]; Ctrl and Cmd are the same.
export function keyTable(app, page) {
  const axisStep = (down, by) => {
    const plane = app.active;
    const axis = down ? plane.down : plane.across;
    app.isPlaced = true;
    app.moveTo(axis, app.doc.place[axis] + by * (app.doc.meta.patient ? -1 : 1));
  };
  const slice = (by) => app.moveTo(app.active.axis, app.doc.place[app.active.axis] + by);
  return [
    ["Tools", TOOLS.map(([name, key, , text]) => [[key.toLowerCase()], text, () => app.select(name)])],
    ["Cases", [
      [["a"], "Accept the label and open the next case", () => app.accept()],
      [["s", "Ctrl+s"], "Save without accepting", () => app.save(false)],
      [["j"], "Open the next case of the strategy", () => app.next()],
      [["<"], "Open the case before in the list", () => app.step(-1)],
      [[">"], "Open the case after in the list", () => app.step(1)],
    ]],
    ["Labels", [
      [["1–9"], "Select a class", null],
      [["z", "Ctrl+z"], "Undo", () => app.undo()],
      [["Shift+z", "Ctrl+y"], "Redo", () => app.redo()],
      [["Ctrl+Shift+z"], "", () => app.redo()],
      [["i"], "Select the class or the object at the crosshair", () => app.pick()],
      [["["], "Smaller brush", () => page.resizeBrush(-1)],
      [["]"], "Larger brush", () => page.resizeBrush(1)],
      [["g"], "Proposal of the automatic model", () => app.propose()],
      [["n"], "Begin another object of the class", () => page.newObject()],
      [["Space"], "Use the tool at the crosshair; box: first and second corner", () => page.useAtCross(false)],
      [["Shift+Space"], "Click at the crosshair: does not belong to the object", () => page.useAtCross(true)],
    ]],
    ["View", [
      [["ArrowUp", "ArrowRight"], "Next slice", () => slice(1)],
      [["ArrowDown", "ArrowLeft"], "Previous slice", () => slice(-1)],
      [["PageUp"], "Ten slices on", () => slice(10)],
      [["PageDown"], "Ten slices back", () => slice(-10)],
      [["Shift+ArrowUp"], "Crosshair up; also down, left and right", () => axisStep(true, -1)],
      [["Shift+ArrowDown"], "", () => axisStep(true, 1)],
      [["Shift+ArrowLeft"], "", () => axisStep(false, -1)],
      [["Shift+ArrowRight"], "", () => axisStep(false, 1)],
      [["p"], "Next plane: keys work in the plane with the bright crosshair", () => page.nextPlane()],
      [["l"], "One plane or three", () => page.toggleLayout()],
      [["+", "="], "Zoom in", () => app.active.zoomBy(1.25)],
      [["-"], "Zoom out", () => app.active.zoomBy(0.8)],
      [["r"], "Reset zoom and position", () => page.fit()],
      [["w"], "Next window", () => page.nextWindow()],
      [["h"], "Show or hide labels", () => page.toggleLabels()],
      [["?"], "This help", () => page.help()],
    ]],
  ];
}

export const MOUSE = [
  ["Left button", "The tool"],
  ["Right button, drag", "Level (up, down) and width (left, right) of the window"],
  ["Right button, click", "With a prompt tool: does not belong to the object"],
  ["Middle button, drag", "Move the picture; also Ctrl and left button"],
  ["Wheel", "Slices of a volume; zoom of a picture"],
  ["Ctrl + wheel", "Zoom at the pointer"],
];

const NAMES = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", PageUp: "Page Up", PageDown: "Page Down" };

export function keyName(key) {
  return key.split(/(?<=.)\+(?=.)/).map((part) => NAMES[part] ?? (part.length === 1 ? part.toUpperCase() : part)).join(" + ");
}

// The name of the key of an event, as the table has it.
export function eventKey(event) {
  const key = event.key === " " ? "Space" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const isLetter = /^[a-z]$|^Space$|^Arrow/.test(key);
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.shiftKey && isLetter ? "Shift+" : ""}${key}`;
}
