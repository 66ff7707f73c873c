"""Arrays and tables to Plotly figures; knows no model and no Streamlit, so notebooks use it too."""
