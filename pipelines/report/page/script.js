(() => {
  "use strict";
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const say = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; say(); });
  dark.addEventListener("change", say);
  say();

  // What scrolls within itself can be reached by the keyboard; what does not is no stop on the way.
  const reach = () => {
    for (const part of document.querySelectorAll(".scroll, pre")) {
      part.tabIndex = part.scrollWidth > part.clientWidth ? 0 : -1;
    }
  };
  window.addEventListener("resize", reach);
  reach();

  for (const control of document.querySelectorAll("input.fade")) {
    const overlay = control.closest("figure").querySelector(".overlay");
    const fade = () => { overlay.style.opacity = control.value / 100; };
    control.addEventListener("input", fade);
    fade(); // A browser may keep the place of a control over a reload.
  }
})();
