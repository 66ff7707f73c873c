// One entry of the browser's history for each page. Streamlit adds one for every parameter that a
// page writes into its URL. Before it goes to another page, it writes the new page's parameters
// ("show"), or none, into the URL of the page that it leaves.
if (!window.workbenchHistory) {
  window.workbenchHistory = true;
  const shared = SHARED; // parameters that several pages have
  const push = history.pushState.bind(history);
  const replace = history.replaceState.bind(history);
  const DRAWN = 700; // milliseconds after which a run has drawn the first boxes of its page
  const LATEST = 20000; // milliseconds after which nothing is told any more
  let path = location.pathname;
  let left = null; // the entry that is being left, as it was

  history.pushState = (state, title, url) => {
    const to = new URL(url ?? location.href, location.href);
    if (to.pathname === path) {
      const leaving = to.searchParams.has("show") || (!to.search && location.search);
      if (leaving) left ??= { state: history.state, url: location.href, linked: !!to.search };
      else if (!left?.linked) left = null;
      replace(state, title, url);
      return;
    }
    if (left) replace(left.state, "", left.url);
    left = null;
    path = to.pathname;
    push(state, title, url);
  };

  // After Back, Streamlit's first run of the page drops the parameters that the page before has as
  // well. So it is told once more: when that run has ended or drawn the first boxes, and again
  // should that have been too early.
  const back = () => {
    if (location.pathname === path) return;
    path = location.pathname;
    left = null;
    const { href } = location;
    const asked = new URL(href).searchParams;
    const keys = shared.filter((key) => asked.has(key));
    if (!keys.length) return;
    let times = 3;
    const restore = () => {
      const now = new URLSearchParams(location.search);
      if (location.pathname !== path || !times) return watch.disconnect();
      if (keys.every((key) => now.get(key) === asked.get(key))) return;
      times -= 1;
      replace(history.state, "", href);
      dispatchEvent(new PopStateEvent("popstate", { state: history.state }));
    };
    const state = "data-test-script-state";
    const watch = new MutationObserver(([{ target }]) => {
      const now = target.getAttribute(state);
      if (now === "notRunning") restore();
      if (now === "running") setTimeout(restore, DRAWN);
    });
    watch.observe(document.querySelector(`[${state}]`), { attributeFilter: [state] });
    setTimeout(() => watch.disconnect(), LATEST);
  };
  addEventListener("popstate", back);
}
