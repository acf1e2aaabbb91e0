"""`memae report`: one HTML file that shows what a model found, for a person, without a network.

Read `scan` first, the passes over the samples; then `sections`, what stands in the file; `document` puts them together.
`markup` escapes every text, `charts` and `pictures` draw.
"""

from memae.report.page.document import write_report
from memae.report.page.scan import Findings, scan

__all__ = ["Findings", "scan", "write_report"]
