"""Configure Sphinx: the Markdown files of the project are pages of the site, and all links between them are checked.

The site is built from the project's root, so that pages in docs and READMEs elsewhere can link to each other.
"""

project = "datamodels"
root_doc = "docs/index"
extensions = ["myst_parser"]
include_patterns = [
    "*.md",
    "docs/**.md",
    "services/*/README.md",
    "helm/datamodels/README.md",
    "tests/hostcuda/README.md",
]
exclude_patterns = [".*", "build", "shared"]
myst_heading_anchors = 4  # levels of headings that links can name, as code hosts name them

html_title = project
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_show_sourcelink = False
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]
