"""The colours of a printed picture, by role; the HTML page has its own for dark and light."""

FONTS = "DejaVu Sans, Verdana, Segoe UI, Helvetica, Arial, sans-serif"

_COLOURS = {
    "gate": ("#ffffff", "#343a40"),
    "data": ("#e7f5ff", "#1c7ed6"),
    "parameter": ("#f3f0ff", "#7048e8"),
    "constant": ("#f1f3f5", "#868e96"),
    "output": ("#ebfbee", "#2f9e44"),
    "wire": ("none", "#8d99a6"),
    "label": ("#212529", "none"),
    "quiet": ("#6c757d", "none"),
    "value": ("#1864ab", "none"),
    "gradient": ("#c2410c", "none"),
    "value negative": ("#5f6b76", "none"),
    "gradient negative": ("#5f6b76", "none"),
}


def colours_of(role: str) -> tuple[str, str]:
    """Fill and outline."""
    return _COLOURS[role]
