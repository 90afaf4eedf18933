// In a narrow window the theme's two sidebars open by labels of hidden checkboxes, which only a mouse reaches.
// Here the labels become buttons: Enter and Space open a sidebar, Escape closes it, and so does leaving it by Tab.
for (const [id, place, title] of [
  ["__navigation", ".sidebar-drawer", "All pages"],
  ["__toc", ".toc-drawer", "On this page"],
]) {
  const box = document.getElementById(id), sidebar = document.querySelector(place);
  const buttons = [...document.querySelectorAll(`label[for="${id}"]:not(.overlay)`)];
  const tell = () => buttons.forEach(button => button.setAttribute("aria-expanded", box.checked));
  const open = yes => { box.checked = yes; tell(); };

  for (const button of buttons) {
    button.tabIndex = 0;
    button.setAttribute("role", "button");
    button.setAttribute("aria-label", title);
    button.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();  // Space would scroll
      open(!box.checked);
      if (box.checked) sidebar.querySelector("a[href], input:not([type=hidden])").focus();
    });
  }
  box.addEventListener("change", tell);
  document.addEventListener("keydown", event => {
    if (event.key !== "Escape" || !box.checked) return;
    open(false);
    buttons.find(button => button.checkVisibility())?.focus();
  });
  sidebar.addEventListener("click", event => { if (event.target.closest("a")) open(false); });
  sidebar.addEventListener("focusout", event => {
    const next = event.relatedTarget;
    if (next && !sidebar.contains(next) && !buttons.includes(next)) open(false);
  });
  tell();
}
