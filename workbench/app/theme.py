"""How the page looks: Gradio's theme, our style sheet and the page's few lines of script.

Everything is served by the app itself (system and bundled fonts, no address outside this computer).
"""

import base64
from pathlib import Path

import gradio as gr

ASSETS = Path(__file__).parent / "assets"

# A calm blue-green; 600 reaches 4.5:1 against white, 400 against the dark page.
PINE = gr.themes.Color(
    name="pine",
    c50="#eef7f5",
    c100="#d7ece8",
    c200="#b0dad2",
    c300="#7fc1b6",
    c400="#4ba496",
    c500="#23877a",
    c600="#126e63",
    c700="#0e5850",
    c800="#0e4741",
    c900="#0d3a36",
    c950="#052220",
)
# Greys with a little warmth, so that pictures stand on paper rather than on steel.
STONE = gr.themes.Color(
    name="stone",
    c50="#faf9f7",
    c100="#f3f1ed",
    c200="#e6e3dd",
    c300="#d3cfc7",
    c400="#a5a097",
    c500="#736e66",
    c600="#57534c",
    c700="#3d3a35",
    c800="#2a2825",
    c900="#1d1c1a",
    c950="#141312",
)


def theme() -> gr.themes.Base:
    """The theme in light and dark; fonts are Gradio's bundled IBM Plex, then whatever the system has."""
    return gr.themes.Base(
        primary_hue=PINE,
        secondary_hue=PINE,
        neutral_hue=STONE,
        text_size=gr.themes.sizes.text_md,
        # Weight 700, because Gradio's 600 files hold a part of the alphabet only.
        font=(gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"),
        font_mono=(gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"),
        radius_size=gr.themes.sizes.radius_md,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_800",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_title_text_weight="600",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        input_background_fill="white",
        input_background_fill_dark="*neutral_950",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*primary_50",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_border_width="1px",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        color_accent="*primary_600",
        link_text_color="*primary_600",
        link_text_color_dark="*primary_300",
        block_shadow="none",
        block_shadow_dark="none",
    )


def css() -> str:
    """The style sheet of the page, the dice of its buttons inline.

    As a button's `icon`, Gradio would keep it in a folder that all its apps of a user share, and the first
    app that closes empties for the others.
    """
    dice = base64.b64encode((ASSETS / "dice.svg").read_bytes()).decode("ascii")
    return (
        (ASSETS / "page.css")
        .read_text(encoding="utf-8")
        .replace("DICE.SVG", f"data:image/svg+xml;base64,{dice}")
    )


def head() -> str:
    """What goes into the page's head: its icon and the script of the training scrubber, both inline."""
    icon = base64.b64encode((ASSETS / "icon.svg").read_bytes()).decode("ascii")
    script = (ASSETS / "page.js").read_text(encoding="utf-8")
    return (
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" type="image/svg+xml" href="data:image/svg+xml;base64,{icon}">'
        f"<script>{script}</script>"
    )
