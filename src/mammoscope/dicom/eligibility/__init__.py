"""May this image be scored? The gate that every image passes, in a cohort and at prediction.

Each rule either does not fire, or says why in a sentence; :class:`EligibilityConfig` says
what happens then. An absent element fires no rule that looks for a word, since public data
sets strip headers: only laterality and view must come from somewhere.
"""

from mammoscope.dicom.eligibility.gate import RULES, Admission, admit
from mammoscope.dicom.eligibility.kinds import ACCEPTED_SOP_CLASSES
from mammoscope.dicom.eligibility.rule import Candidate, Rule

__all__ = ["ACCEPTED_SOP_CLASSES", "RULES", "Admission", "Candidate", "Rule", "admit"]
