// Live: the picture follows what is typed and dragged. Gradio tells of each change of a setting.
(() => {
  const WAIT_MS = 30; // many settings change at once, and a slider more often than a picture can be asked for
  const live = () => document.querySelector("#live input");
  let due;
  const draw = () => {
    if (!live()?.checked) return;
    due ??= setTimeout(() => {
      due = undefined;
      document.querySelector("#draw-live")?.click();
    }, WAIT_MS);
  };
  document.addEventListener("ls-changed", draw);
  document.addEventListener("change", (event) => event.target === live() && draw());
})();
