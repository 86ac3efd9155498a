"""Tables, figures and the check, made from finished runs; it never trains."""
