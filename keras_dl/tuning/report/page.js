// A click on a column header sorts the table; another click reverses the order. Missing values are always last.
for (const table of document.querySelectorAll("table.sort")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column], text = cell.dataset.key ?? cell.textContent.trim();
    return text === "-" || text === "" ? null : isNaN(text) ? text : Number(text);
  };
  heads.forEach((head, column) => {
    head.classList.add("sortable");
    head.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending", sign = down ? -1 : 1;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map(row => [key(row, column), row]);
      rows.sort(([a], [b]) => a === null ? (b === null ? 0 : 1) : b === null ? -1
        : sign * (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1));
      body.append(...rows.map(([, row]) => row));
    });
  });
}
