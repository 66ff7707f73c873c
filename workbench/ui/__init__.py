"""The app: its entry and what pages share. Only this package and `pages/` import Streamlit."""
