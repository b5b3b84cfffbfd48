"""Tables, figures and pages, made from records. Nothing is trained here."""
