// Keys of the page: Ctrl+Enter (or Enter in the prompt) draws, Escape stops.
(() => {
  const press = (id) => {
    const button = document.querySelector(`button#${id}, #${id} button`);
    if (button && !button.disabled) button.click();
  };
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.isComposing) return; // Enter ends a word of an input method, not the prompt
      const words = event.target.closest?.("#prompt textarea, #negative textarea");
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        event.stopPropagation();
        press("generate");
      } else if (event.key === "Enter" && words && !event.altKey) {
        event.stopPropagation(); // else Gradio would take Shift+Enter, which starts a new line here
        if (event.shiftKey) return;
        event.preventDefault();
        press("generate");
      } else if (event.key === "Escape") {
        const open = event.target.closest?.('[role="listbox"], [aria-expanded="true"], .toast-wrap');
        if (!open && !document.querySelector("dialog[open]")) press("stop");
      }
    },
    true,
  );
  // An example goes into the prompt; the next key should go there too.
  document.addEventListener("click", (event) => {
    if (event.target.closest?.(".ls-chip")) document.querySelector("#prompt textarea")?.focus();
  });
})();
