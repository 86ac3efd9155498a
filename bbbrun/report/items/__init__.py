"""One file for each table or figure: a function of (runs, folder), and a row of MAKERS."""
