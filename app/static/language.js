// The language of the page is chosen in its header and kept in a cookie, which the server reads.
(() => {
  const YEAR_SECONDS = 365 * 24 * 3600;
  document.addEventListener("click", (event) => {
    const chosen = event.target.closest?.("[data-language]");
    if (!chosen || chosen.getAttribute("aria-pressed") === "true") return;
    document.cookie = `latent_studio_language=${chosen.dataset.language}; path=/; max-age=${YEAR_SECONDS}; samesite=lax`;
    location.reload();
  });

  // What a prompt says in the model's own words goes into the prompt, to be changed or drawn.
  document.addEventListener("click", (event) => {
    const caption = event.target.closest?.("[data-caption]");
    const box = document.querySelector("#prompt textarea");
    if (!caption || !box) return;
    box.value = caption.dataset.caption;
    box.dispatchEvent(new Event("input", { bubbles: true })); // so that Gradio hears of it
    box.focus();
  });
})();
