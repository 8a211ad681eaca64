// Buttons that copy what their `data-copy` says.
(() => {
  const write = (words) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(words);
    const box = document.createElement("textarea"); // a page that is not on this machine, without https
    box.value = words;
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
    return Promise.resolve();
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    write(button.dataset.copy).then(() => {
      const label = button.textContent;
      button.textContent = document.querySelector("#ls-words").content.querySelector('[data-word="copied"]').textContent;
      setTimeout(() => { button.textContent = label; }, 1200);
    });
  });
})();
