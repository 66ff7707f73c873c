"""The app's entry: navigation over `pages/`, and the one place where errors become a sentence."""

import logging

import streamlit as st

from workbench import memory, paths
from workbench.errors import WorkbenchError
from workbench.ui import shipped, warm
from workbench.ui.parts import history, links
from workbench.ui.parts.charts import choose_image_format
from workbench.ui.parts.notices import fault

# File name on the shelf, title, icon, section. (Streamlit would write a string here on every page.)
PAGES = (
    ("home", "Home", ":material/home:", "Workbench"),
    ("models", "Models", ":material/deployed_code:", "Workbench"),
    ("chat", "Chat", ":material/forum:", "Workbench"),
    ("attention", "Attention", ":material/grid_on:", "Look inside"),
    ("heads", "Heads", ":material/category:", "Look inside"),
    ("anatomy", "Anatomy", ":material/biotech:", "Look inside"),
    ("positions", "Positions", ":material/timeline:", "Look inside"),
    ("patching", "Patching", ":material/conversion_path:", "Look inside"),
    ("attribution", "Attribution", ":material/compare:", "Look inside"),
    ("lens", "Lens", ":material/layers:", "Look inside"),
    ("circuits", "Circuits", ":material/hub:", "Look inside"),
    ("linear", "Linear probes", ":material/linear_scale:", "Look inside"),
    ("pictures", "Pictures", ":material/image:", "Look inside"),
    ("steering", "Steering", ":material/explore:", "Look inside"),
    ("benchmarks", "Benchmarks", ":material/scoreboard:", "Measure"),
    ("compare", "Compare", ":material/compare_arrows:", "Measure"),
    ("transplant", "Transplant", ":material/content_cut:", "Measure"),
    ("privacy", "Privacy", ":material/shield_person:", "Measure"),
    ("fairness", "Fairness", ":material/balance:", "Measure"),
    ("train", "Train", ":material/model_training:", "Make"),
    ("runs", "Runs", ":material/lists:", "Make"),
    ("dynamics", "Dynamics", ":material/show_chart:", "Make"),
    ("resources", "Resources", ":material/memory:", "Make"),
)

STYLE = """<style>
.stMainBlockContainer { padding: 3.4rem 3rem 3rem; max-width: 1500px; }
h1 { font-size: 2rem !important; padding: 0 0 0.2rem !important; }
h3 { font-size: 1.25rem !important; }
.stMain [data-testid="stPageLink-NavLink"] p { white-space: normal; }
/* Columns that would be squeezed go below each other instead. */
.stMain [data-testid="stHorizontalBlock"] { flex-wrap: wrap; }
.stMain [data-testid="stColumn"] { min-width: min(100%, 8.5rem); }
.stMain [data-testid="stColumn"]:has(.stPlotlyChart) { min-width: min(100%, 20rem); }
@media (max-width: 40rem) {
  .stMainBlockContainer { padding: 3.4rem 1rem 2rem; }
  .stMain [data-testid="stColumn"]:has([data-testid="stButtonGroup"]) { min-width: 100%; }
}
/* Words in cells need their width: a phone scrolls the lens. */
.stMain .st-key-scrolled { overflow-x: auto; }
.stMain .st-key-table { min-width: 50rem; }
/* The pages' names fit in a window of 900 pixels. */
[data-testid="stSidebarNavLink"] { padding-block: 0; margin-block: 0; line-height: 1.7rem; }
[data-testid="stNavSectionHeader"] { padding-block: 0; margin-block: 0.3rem 0; }
[data-testid="stSidebarNavItems"] { gap: 0; }
/* Below the figure they cover no title. */
.stMain .modebar-container { top: auto !important; bottom: 0; }
/* Without a mouse they would cover titles and legends all the time. */
@media (hover: none) {
  .stMain .modebar-container, .stMain [data-testid="stElementToolbar"] { display: none; }
}
</style>"""


def main() -> None:
    """Show the page that the URL names."""
    st.set_page_config(page_title="Workbench", page_icon="🔬", layout="wide")
    st.html(STYLE)
    history.one_entry_a_page(links.KEYS)
    sections: dict[str, list] = {}
    for name, title, icon, section in PAGES:
        page = st.Page(
            paths.shelf("pages") / f"{name}.py",
            title=title,
            icon=icon,
            url_path=None if name == "home" else name,
            default=name == "home",
        )
        sections.setdefault(section, []).append(page)
    page = st.navigation(sections, expanded=True)
    try:
        links.arrive()
        with st.sidebar:
            choose_image_format()
        shipped.ensure()
        if page.url_path:  # every page but Home works with models
            warm.start()
            with st.spinner("Starting the model libraries, once"):
                warm.wait()
        page.run()
    except WorkbenchError as error:
        fault(error)
    except Exception as error:
        logging.getLogger("workbench").exception("The page %s failed", page.title)
        fault(
            f"This is a bug in the workbench, not in your input: {type(error).__name__}: {error} "
            "The log has the details; please report it.",
            icon=":material/bug_report:",
        )
    finally:  # a page that ends itself is a page run too
        memory.settle()
    warm.start()  # after the page, so that Home does not share the processor with it


main()
