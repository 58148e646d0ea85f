"""The rulebook as a drawing: from the rules to what is drawn, to where it lies, to SVG."""
