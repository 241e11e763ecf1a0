"""The Gradio app: one module a tab, pure functions behind, one loaded model in the middle.

`workbench.app.server.build` makes the page, `workbench.app.server.launch` serves it on this computer alone.
"""
