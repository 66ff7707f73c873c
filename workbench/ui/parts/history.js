// One entry of the browser's history for each page. Streamlit adds one for every parameter that a
// page writes into its URL. Before it goes to another page, it writes the new page's parameters
// ("show"), or none, into the URL of the page that it leaves.
if (!window.workbenchHistory) {
  window.workbenchHistory = true;
  const shared = SHARED; // parameters that several pages have
  const push = history.pushState.bind(history);
  const replace = history.replaceState.bind(history);
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

  // After Back, Streamlit drops the parameters that the page before has as well. So it is told at
  // once to go back to them in "show", as a link has them.
  const back = () => {
    if (location.pathname === path) return;
    path = location.pathname;
    left = null;
    const asked = new URL(location.href).searchParams;
    const carried = {};
    for (const key of shared.filter((each) => asked.has(each))) {
      carried[key] = key === "models" ? asked.getAll(key) : asked.getAll(key).at(-1);
      asked.delete(key);
    }
    if (!Object.keys(carried).length) return;
    asked.set("show", JSON.stringify(carried));
    replace(history.state, "", `${path}?${asked}`);
    dispatchEvent(new PopStateEvent("popstate", { state: history.state }));
  };
  addEventListener("popstate", back);
}
