"""A report as text, as Markdown, as JSON, and as a page for a browser."""
