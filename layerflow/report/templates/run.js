// While the pointer is over one chart, every chart shows its values in that epoch.
const charts = [...document.querySelectorAll(".chart")].map((figure) => ({
  ...JSON.parse(figure.dataset.numbers),
  svg: figure.querySelector("svg"),
  line: figure.querySelector(".pointer"),
  epoch: figure.querySelector(".epoch output"),
  outputs: [...figure.querySelectorAll(".legend output")],
}));

function show(place) {
  for (const chart of charts) {
    const at = place ?? chart.shown;
    chart.epoch.value = chart.epochs[at];
    chart.outputs.forEach((output, curve) => (output.value = chart.values[curve][at]));
    chart.line.setAttribute("visibility", place === null ? "hidden" : "visible");
    chart.line.setAttribute("x1", chart.x[at]);
    chart.line.setAttribute("x2", chart.x[at]);
  }
}

for (const chart of charts) {
  const width = chart.svg.viewBox.baseVal.width;
  chart.svg.addEventListener("pointermove", (event) => {
    const box = chart.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width;
    let nearest = 0;
    chart.x.forEach((position, place) => {
      if (Math.abs(position - x) < Math.abs(chart.x[nearest] - x)) nearest = place;
    });
    show(nearest);
  });
  chart.svg.addEventListener("pointerleave", () => show(null));
}
