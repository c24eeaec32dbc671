"use strict";
(() => {
  const value = (cell) => {
    const data = cell.querySelector("data");
    if (!data) return cell.textContent.trim().toLocaleLowerCase();
    const raw = data.value;
    return raw === "inf" ? Infinity : raw === "-inf" ? -Infinity : raw === "nan" ? NaN : Number(raw);
  };
  const compare = (a, b) => {
    const [x, y] = [typeof a === "number", typeof b === "number"];
    if (x && y) return a - b;
    if (x !== y) return x ? -1 : 1;
    return a.localeCompare(b, undefined, { numeric: true });
  };
  const isMissing = (key) => Number.isNaN(key) || key === "–" || key === "";

  for (const table of document.querySelectorAll(".table table")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const rows = [...body.rows];
    const page = Number(table.dataset.page) || Infinity;
    const box = table.closest(".table");
    const controls = box.querySelector(".controls");
    let shown = page;
    let more = null;

    const draw = () => {
      const search = controls ? controls.querySelector("input").value.trim().toLocaleLowerCase() : "";
      const filters = controls ? [...controls.querySelectorAll("select")].filter((one) => one.value) : [];
      let matching = 0;
      for (const row of body.rows) {
        const fits = (!search || row.textContent.toLocaleLowerCase().includes(search)) &&
          filters.every((one) => row.cells[one.dataset.column].textContent.trim() === one.value);
        if (fits) matching += 1;
        row.hidden = !fits || matching > shown;
      }
      if (controls) {
        const visible = Math.min(matching, shown);
        controls.querySelector("output").textContent = visible < rows.length
          ? `${visible.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows shown`
          : `${rows.length.toLocaleString("en")} rows`;
      }
      if (more) more.hidden = matching <= shown;
    };

    const sort = (index, order) => {
      const sign = order === "ascending" ? 1 : -1;
      const keyed = [...body.rows].map((row, at) => ({ row, at, key: value(row.cells[index]) }));
      keyed.sort((a, b) => {
        const [x, y] = [isMissing(a.key), isMissing(b.key)];
        if (x || y) return x - y || a.at - b.at;
        return sign * compare(a.key, b.key) || a.at - b.at;
      });
      body.append(...keyed.map((one) => one.row));
      heads.forEach((head, at) => {
        if (at === index) head.setAttribute("aria-sort", order);
        else head.removeAttribute("aria-sort");
      });
      draw();
    };

    heads.forEach((head, index) => {
      head.querySelector("button").addEventListener("click", () => {
        sort(index, head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending");
      });
    });
    if (controls) {
      controls.hidden = false;
      controls.addEventListener("input", () => { shown = page; draw(); });
      if (rows.length > page) {
        more = document.createElement("button");
        more.type = "button";
        more.className = "more";
        more.textContent = "Show all rows";
        more.addEventListener("click", () => { shown = Infinity; draw(); });
        box.append(more);
      }
    }
    draw();
  }

  // Pictures of folded parts are loaded when the part is opened, so that the page itself loads fast.
  const load = (part) => {
    for (const one of part.querySelectorAll("img[data-src]")) {
      one.src = one.dataset.src;
      one.removeAttribute("data-src");
    }
  };
  document.addEventListener("toggle", (event) => { if (event.target.open) load(event.target); }, true);

  const reveal = () => {
    if (location.hash.length < 2) return;
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = target && (target.closest("details") || target.querySelector("details"));
    if (folded) { folded.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);
  reveal();
  addEventListener("beforeprint", () => {
    load(document);
    for (const one of document.querySelectorAll("details:not([open])")) one.open = true;
  });
})();
