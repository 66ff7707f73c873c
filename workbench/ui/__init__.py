"""The only place, with `pages/`, that imports Streamlit: the entry, cached loading, controls, state
in the URL.
"""
