"""`bbbrun evaluate`: runs judged on sets of inputs, methods side by side; tables, figures and one page."""
