"""Draws the rulebook as SVG: from the rules to a chart, to a layout, to the picture."""
