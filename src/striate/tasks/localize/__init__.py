"""Classification with localisation."""
