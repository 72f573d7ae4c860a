"""Makes operators start as in the image, which has no kubernetes-validate.

The library `kubernetes` imports it wherever it is installed, as in a checkout. The import takes more than half of the
time of a start.
"""

raise ImportError("not in the image")
