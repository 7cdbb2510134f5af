"use strict";
(() => {
  const SCALE = { k: 1e3, M: 1e6, G: 1e9, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

  // The number that a cell begins with: `1,234`, `3.78 k`, `+3.9 +- 0.4`, `1:05`, or null.
  function number(text) {
    const time = /^(\d+):(\d\d)(?::(\d\d))?/.exec(text);
    if (time) return time.slice(1).filter(Boolean).reduce((sum, part) => 60 * sum + Number(part), 0);
    const match = /^([<>]?)([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?: ([kMG]|[KMG]iB)\b)?/.exec(text);
    return match ? Number(match[2].replaceAll(",", "")) * (SCALE[match[3]] ?? 1) : null;
  }

  function sort(table, column, heading) {
    const down = heading.getAttribute("aria-sort") === "ascending";
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => {
      const text = row.cells[column].textContent.trim();
      return { row, text, value: number(text), absent: text === "-" || text === "" };
    });
    rows.sort((one, other) => {
      if (one.absent || other.absent) return one.absent - other.absent;
      const numbers = one.value !== null && other.value !== null;
      const order = (numbers && one.value - other.value) || one.text.localeCompare(other.text, "en", { numeric: true });
      return down ? -order : order;
    });
    for (const each of heading.parentElement.cells) each.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows.map((each) => each.row));
  }

  function sortable(table) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      if (!heading.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, column, heading));
      heading.append(button);
    });
  }

  function filterable(table) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 8) return;
    const line = document.createElement("div"), field = document.createElement("input"), count = document.createElement("span");
    line.className = "filter";
    field.type = "search";
    field.placeholder = "filter";
    field.setAttribute("aria-label", "show only rows with these words");
    count.setAttribute("role", "status");
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
      count.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
    });
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
    line.append(field, count);
    table.parentElement.before(line);
  }

  for (const table of document.querySelectorAll("table.sorts")) {
    sortable(table);
    filterable(table);
  }

  // Bokeh draws on a canvas, which does not know the colours of the page.
  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function dress(tools) {
    const [ink, soft] = ["--ink", "--soft"].map(colour);
    for (const shown of Bokeh.documents) {
      for (const root of shown.roots()) {
        root.toolbar.visible = tools;
        for (const model of root.references()) {
          if (model.type.endsWith("Axis")) {
            model.setv({ axis_line_color: soft, major_tick_line_color: soft, major_label_text_color: soft, axis_label_text_color: soft });
          } else if (model.type === "Grid") {
            model.grid_line_color = soft;
          } else if (model.type === "Text") {
            model.text_color = { value: ink };
          }
        }
      }
    }
  }

  function legend(list) {
    const figure = Bokeh.documents[0].roots().find((root) => root.tags.includes(list.dataset.chart));
    for (const button of list.children) {
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(shown));
        for (const each of figure.renderers) if (each.tags.includes(button.value)) each.visible = shown;
      });
    }
  }

  const data = document.getElementById("charts");
  if (data && window.Bokeh) {
    const { docs, items } = JSON.parse(data.textContent);
    Bokeh.embed.embed_items(docs, items).then(() => {
      dress(true);
      document.querySelectorAll(".legend").forEach(legend);
      document.documentElement.dataset.charts = String(Bokeh.documents.flatMap((shown) => shown.roots()).length);
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dress(true));
    matchMedia("print").addEventListener("change", (event) => dress(!event.matches));
  }
})();
