"""Tables, figures and the check, out of finished runs; it never trains."""
