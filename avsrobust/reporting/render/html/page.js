"use strict";
/* The page's controls. Without this script the page shows everything; nothing here builds markup from text. */
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const byId = (id) => document.getElementById(id);

  for (const head of all("th[scope=row]")) if (head.scrollWidth > head.clientWidth) head.title = head.textContent.trim();

  /* Tables: a click on a heading sorts by its column, downwards first; bounds stay below, undefined values last. */
  const value = (cell) => {
    const text = cell ? cell.textContent.trim() : "";
    const number = parseFloat(text);
    return Number.isNaN(number) ? text : number;
  };
  const compare = (one, other, sign) => {
    const numbers = [typeof one === "number", typeof other === "number"];
    if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
    if (numbers[0]) return sign * (one - other);
    return sign * String(one).localeCompare(String(other));
  };
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    const heads = Array.from(table.tHead.rows[table.tHead.rows.length - 1].cells);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const descending = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const rows = Array.from(body.rows).map((row, position) => ({ row, position }));
        rows.sort((one, other) => {
          const bounds = one.row.classList.contains("trivial") - other.row.classList.contains("trivial");
          const values = [one, other].map((entry) => value(entry.row.cells[column]));
          return bounds || compare(values[0], values[1], descending ? -1 : 1) || one.position - other.position;
        });
        body.append(...rows.map((entry) => entry.row));
      });
    });
  }

  /* The filter of models and parts: rows and charts whose name has the text in it. */
  for (const controls of all(".filter")) {
    const section = controls.closest("section");
    const [text, baselines, part] = ["text", "baselines", "part"].map((name) => controls.querySelector(`[data-filter=${name}]`));
    const apply = () => {
      const wanted = text.value.trim().toLowerCase();
      const wantedPart = part ? part.value.trim().toLowerCase() : "";
      let shown = 0;
      for (const item of all("[data-name]", section)) {
        const isHidden =
          !item.dataset.name.toLowerCase().includes(wanted) ||
          (baselines && !baselines.checked && item.classList.contains("baseline")) ||
          (item.dataset.part !== undefined && !item.dataset.part.toLowerCase().includes(wantedPart));
        item.hidden = isHidden;
        shown += isHidden ? 0 : 1;
      }
      controls.querySelector("output").value = shown ? "" : "nothing matches";
    };
    for (const control of [text, baselines, part]) if (control) control.addEventListener("input", apply);
    controls.hidden = false;
  }

  /* Pairs: those with one model, or with two. */
  for (const part of all(".pairs")) {
    const [one, other] = ["one", "other"].map((side) => part.querySelector(`select[data-pair=${side}]`));
    const rows = all("tr[data-pair]", part);
    const apply = () => {
      let shown = 0;
      for (const row of rows) {
        const models = row.dataset.pair.split(" ");
        const isShown = [one, other].every((select) => select.value === "" || models.includes(select.value));
        row.classList.toggle("unpaired", !isShown);
        shown += isShown ? 1 : 0;
      }
      part.querySelector("output").value = `${shown} ${shown === 1 ? "pair" : "pairs"}`;
    };
    for (const select of [one, other]) select.addEventListener("input", apply);
    part.querySelector(".controls").hidden = false;
    apply();
  }

  /* The threshold: the table's cells and a line in each chart follow the slider. */
  for (const controls of all(".threshold")) {
    const slider = controls.querySelector("input");
    const rows = all("tr[data-curves]", controls).map((row) => ({
      cells: Array.from(row.cells).slice(1),
      curves: row.dataset.curves.split("|").map((curve) => curve.split(" ")),
    }));
    const thresholds = controls.dataset.thresholds.split(" ");
    const lines = all(".at-threshold", controls);
    const move = () => {
      const at = Number(slider.value);
      controls.querySelector("output").value = thresholds[at];
      slider.setAttribute("aria-valuetext", thresholds[at]);
      for (const { cells, curves } of rows) cells.forEach((cell, i) => { cell.textContent = curves[i][at]; });
      for (const line of lines) {
        const [left, right] = [Number(line.dataset.left), Number(line.dataset.right)];
        const x = left + Number(thresholds[at]) * (right - left);
        line.setAttribute("x1", x);
        line.setAttribute("x2", x);
        line.removeAttribute("visibility");
      }
    };
    slider.addEventListener("input", move);
    slider.closest("p").hidden = false;
    move();
  }

  /* The gallery: two models next to each other, one condition or all, one category or all, worst first. */
  for (const gallery of all(".gallery")) {
    const id = gallery.dataset.id;
    const [first, second, order, condition, category, truth] = ["first", "second", "order", "condition", "category", "truth"].map(
      (name) => byId(`${id}.${name}`),
    );
    const list = gallery.querySelector(".clips");
    const clips = all(".clip", list);
    const badness = (clip) => {
      const rank = clip.dataset.ranks.split("|")[Number(order.value)].split(" ")[Number(first.value)];
      return rank === "-" || rank === undefined ? -Infinity : Number(rank);
    };
    const rank = (clip) => {
      const found = badness(clip);
      const title = order.options[order.selectedIndex].textContent;
      return found === -Infinity ? "" : ` · ${title}: ${(100 * Math.abs(found)).toFixed(2)} %`;
    };
    const apply = (event) => {
      let shown = 0;
      for (const clip of clips) {
        clip.hidden = category.value !== "" && !clip.dataset.categories.split(" ").includes(category.value);
        shown += clip.hidden ? 0 : 1;
        for (const row of all(".row", clip)) row.hidden = condition.value !== "" && row.dataset.condition !== condition.value;
        for (const views of all(".views", clip)) {
          const figures = all("figure", views);
          for (const figure of figures) {
            figure.hidden = ![first.value, second.value].includes(figure.dataset.model);
            figure.style.order = figure.dataset.model === first.value ? 0 : 1;
          }
        }
      }
      const sorted = [...clips].sort((one, other) => badness(other) - badness(one) || clips.indexOf(one) - clips.indexOf(other));
      for (const clip of clips) clip.querySelector(".rank").textContent = rank(clip);
      /* In a new order its worst clips are open. */
      if (!event || [first, order].includes(event.target)) sorted.forEach((clip, position) => { clip.open = position < 2; });
      list.append(...sorted);
      list.classList.toggle("without-truth", !truth.checked);
      gallery.querySelector("output").value = `${shown} ${shown === 1 ? "clip" : "clips"}`;
    };
    for (const control of [first, second, order, condition, category, truth]) control.addEventListener("input", apply);
    gallery.querySelector(".controls").hidden = false;
    apply();
  }

  /* One sound at a time. */
  for (const audio of all("audio")) {
    audio.addEventListener("play", () => {
      for (const other of all("audio")) if (other !== audio) other.pause();
    });
  }

  /* A link into a closed part opens it; on paper the provenance is open. */
  const openTo = () => {
    const target = location.hash.length > 1 && byId(decodeURIComponent(location.hash.slice(1)));
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    if (target) target.scrollIntoView();
  };
  window.addEventListener("hashchange", openTo);
  openTo();
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = all("details.provenance:not([open])");
    for (const part of closed) part.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const part of closed) part.open = false;
  });
})();
