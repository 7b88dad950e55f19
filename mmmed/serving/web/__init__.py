"""The web server: one application to which parts add their pages, and what guards all of them alike."""
