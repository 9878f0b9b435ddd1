"use strict";
// The report's behaviour: paints the plots in the inks of page.css, sorts and filters the table, opens its rows.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const table = document.getElementById("table");
  const rows = Array.from(table.tBodies);
  const drawing = document.getElementById("drawing");
  document.documentElement.classList.add("scripted");

  // Plots ------------------------------------------------------------------------------------------------------

  function ink(name) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  }

  function painted(figure) {
    const copy = structuredClone(figure);
    for (const trace of copy.data) {
      const colour = ink(trace.meta);
      trace.marker = { ...trace.marker, color: colour, line: { ...(trace.marker || {}).line, color: colour } };
      if (trace.line) trace.line.color = colour;
    }
    for (const shape of copy.layout.shapes || []) shape.line.color = ink("tolerance");
    for (const axis of [copy.layout.xaxis, copy.layout.yaxis]) {
      Object.assign(axis, { gridcolor: ink("line"), linecolor: ink("box-line"), tickcolor: ink("box-line"), showline: true, ticks: "outside" });
    }
    const clear = "rgba(0,0,0,0)";
    const label = { bgcolor: ink("panel"), bordercolor: ink("box-line"), font: { color: ink("ink") } };
    const modebar = { bgcolor: clear, color: ink("soft"), activecolor: ink("link") };
    Object.assign(copy.layout, { paper_bgcolor: clear, plot_bgcolor: clear, hoverlabel: label, modebar, autosize: true });
    copy.layout.font.color = ink("ink");
    return copy;
  }

  function plot(id, figure) {
    const place = document.getElementById(id);
    place.hidden = !figure;
    if (!figure) return place;
    const { data, layout } = painted(figure);
    const buttons = ["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"];
    Plotly.react(place, data, layout, { responsive: true, displaylogo: false, modeBarButtons: [buttons] });
    return place;
  }

  function plotErrors() {
    return plot("error-plot", figures.errors);
  }

  function plotHistogram() {
    const choice = document.getElementById("histogram-layer");
    if (!choice) return;
    const chosen = figures.histograms[Number(choice.value)];
    plot("histogram", chosen.figure);
    const facts = chosen.caption.map((fact) => Object.assign(document.createElement("span"), { textContent: fact }));
    document.getElementById("histogram-caption").replaceChildren(...facts.flatMap((fact) => [fact, " "]));
  }

  function plotAll() {
    plotErrors();
    plotHistogram();
  }

  // Table ------------------------------------------------------------------------------------------------------

  function key(row, column, kind) {
    const text = row.rows[0].cells[column].dataset.key;
    return kind === "number" ? Number(text.replace("inf", "Infinity")) : text;
  }

  function compare(a, b) {
    return typeof a === "number" ? (a === b ? 0 : a < b ? -1 : 1) : a.localeCompare(b, "en", { numeric: true });
  }

  // Equal rows keep the order of execution, whatever the direction.
  function sortBy(heading) {
    const column = heading.cellIndex, kind = heading.dataset.kind;
    const direction = heading.ariaSort === "ascending" ? -1 : 1;
    for (const each of heading.parentNode.cells) each.ariaSort = "none";
    heading.ariaSort = direction === 1 ? "ascending" : "descending";
    const keyed = rows.map((row) => [key(row, column, kind), row]);
    keyed.sort((a, b) => direction * compare(a[0], b[0]));
    table.append(...keyed.map((pair) => pair[1]));
  }

  function filter() {
    const words = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const failedOnly = document.getElementById("failed-only").checked;
    for (const row of rows) {
      const found = words.every((word) => row.dataset.words.includes(word));
      row.hidden = !found || (failedOnly && !row.classList.contains("failed"));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    document.getElementById("shown").textContent = `${shown} of ${rows.length} layers`;
  }

  function open(row, whether) {
    row.classList.toggle("open", whether);
    row.querySelector(".opens").ariaExpanded = String(row.classList.contains("open"));
  }

  // Follows #row-12 and #node-12: a row hidden by the filter is shown, and opened.
  function follow() {
    const target = document.getElementById(location.hash.slice(1));
    if (!target || !/^(row|node)-/.test(target.id)) return;
    if (target.id.startsWith("row-")) {
      if (target.hidden) {
        document.getElementById("filter").value = "";
        document.getElementById("failed-only").checked = false;
        filter();
      }
      open(target, true);
      target.querySelector(".opens").focus({ preventScroll: true });
    }
    target.scrollIntoView({ block: "center", inline: "center" });
  }

  // Network ----------------------------------------------------------------------------------------------------

  function showCard(node, x, y) {
    const card = document.getElementById("card");
    card.textContent = node.dataset.card;
    card.hidden = false;
    card.style.left = Math.max(8, Math.min(x + 14, innerWidth - card.offsetWidth - 8)) + "px";
    card.style.top = Math.max(8, Math.min(y + 14, innerHeight - card.offsetHeight - 8)) + "px";
  }

  function hideCard() {
    document.getElementById("card").hidden = true;
  }

  // The focused box keeps its card while the page scrolls to it; a card that the mouse opened goes.
  function cardOfFocus() {
    const node = document.activeElement;
    if (!node.matches(".node:focus-visible")) return hideCard();
    const place = node.getBoundingClientRect();
    showCard(node, place.right, place.top);
  }

  function listenToNodes() {
    for (const node of drawing.querySelectorAll(".node")) {
      node.addEventListener("mousemove", (event) => showCard(node, event.clientX, event.clientY));
      node.addEventListener("mouseleave", hideCard);
      node.addEventListener("focus", cardOfFocus);
      node.addEventListener("blur", hideCard);
    }
    addEventListener("scroll", cardOfFocus, true);
    addEventListener("keydown", (event) => event.key === "Escape" && hideCard());
    for (const choice of document.querySelectorAll("input[name=measure]")) {
      choice.addEventListener("change", () => (drawing.dataset.measure = choice.value));
    }
  }

  // Start ------------------------------------------------------------------------------------------------------

  for (const heading of table.tHead.rows[0].cells) heading.firstElementChild.addEventListener("click", () => sortBy(heading));
  for (const row of rows) row.querySelector(".opens").addEventListener("click", () => open(row));
  document.getElementById("filter").addEventListener("input", filter);
  document.getElementById("failed-only").addEventListener("change", filter);
  document.getElementById("histogram-layer")?.addEventListener("change", plotHistogram);
  listenToNodes();
  plotAll();
  plotErrors().on("plotly_click", (event) => (location.hash = "row-" + event.points[0].x));
  for (const medium of ["print", "(prefers-color-scheme: dark)"]) matchMedia(medium).addEventListener("change", plotAll);
  addEventListener("hashchange", follow);
  addEventListener("load", follow);
})();
