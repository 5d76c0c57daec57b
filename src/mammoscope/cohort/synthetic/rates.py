"""Rates of a real screening population, as constants.

All are aggregates of the training table of the RSNA Screening Mammography Breast Cancer
Detection challenge (2023; 54,706 images of 11,913 women at two sites); no record of it is
here. Shares are of images unless the name says patients or breasts.
"""

from __future__ import annotations

from mammoscope.types import Density, View

__all__ = [
    "AGE_BANDS",
    "BIOPSY",
    "BIRADS_BLANK",
    "BIRADS_SHARES",
    "BIRADS_ZERO_GIVEN_CANCER",
    "BOTH_BREASTS_GIVEN_CANCER",
    "BREASTS_IMAGES_OF_A_VIEW",
    "CANCER_BY_AGE",
    "CANCER_BY_DENSITY",
    "CANCER_BY_MACHINE",
    "CANCER_IMAGES",
    "CANCER_PATIENTS",
    "DENSITY_BY_AGE",
    "DIFFICULT_GIVEN_NO_CANCER",
    "IMAGES",
    "IMAGES_BY_MACHINE",
    "IMAGES_PER_PATIENT",
    "IMPLANT_BY_SITE",
    "INVASIVE_GIVEN_CANCER",
    "LEFT_GIVEN_CANCER",
    "MISSING_AGE",
    "MISSING_DENSITY",
    "PATIENTS",
    "PATIENTS_BY_AGE",
    "PATIENTS_BY_SITE",
    "VIEWS",
]

PATIENTS = 11_913
IMAGES = 54_706
CANCER_PATIENTS = 486
CANCER_IMAGES = 1_158

PATIENTS_BY_SITE = {1: 5818, 2: 6095}

#: Ages of each band, half-open. The table's first band is open below, its last above.
AGE_BANDS = (*((low, low + 5) for low in range(35, 80, 5)), (80, 90))
#: Patients of known age, by site, in the order of ``AGE_BANDS``.
PATIENTS_BY_AGE = {
    1: (96, 756, 827, 880, 802, 786, 752, 490, 240, 181),
    2: (0, 160, 333, 1188, 1280, 1335, 1120, 484, 143, 52),
}
#: Shares of densities A to D by age band, patients of site 1.
DENSITY_BY_AGE = (
    (0.021, 0.240, 0.552, 0.188),
    (0.062, 0.279, 0.558, 0.101),
    (0.064, 0.316, 0.530, 0.091),
    (0.076, 0.386, 0.472, 0.066),
    (0.088, 0.466, 0.412, 0.035),
    (0.130, 0.495, 0.352, 0.023),
    (0.131, 0.545, 0.303, 0.021),
    (0.141, 0.557, 0.289, 0.012),
    (0.121, 0.517, 0.325, 0.038),
    (0.088, 0.602, 0.293, 0.017),
)

#: Share of patients with cancer, by age band.
CANCER_BY_AGE = (
    0.0208, 0.0131, 0.0216, 0.0276, 0.0312, 0.0410, 0.0497, 0.0914, 0.0836, 0.1030,
)  # fmt: skip
#: Share of patients with cancer, by density, and of how many patients; site 1.
CANCER_BY_DENSITY = {
    Density.A: (0.0325, 553),
    Density.B: (0.0458, 2511),
    Density.C: (0.0452, 2436),
    Density.D: (0.0291, 309),
}
#: Share of images with cancer, by machine.
CANCER_BY_MACHINE = {
    21: 0.0187,
    29: 0.0195,
    48: 0.0206,
    49: 0.0261,
    93: 0.0073,
    170: 0.0249,
    190: 0.0345,
    197: 0.0,
    210: 0.0,
    216: 0.0042,
}
#: Images by site and machine.
IMAGES_BY_MACHINE = {
    1: {49: 23529, 93: 1915, 216: 1908, 210: 1070, 170: 923, 190: 145, 197: 29},
    2: {48: 8699, 29: 8267, 21: 8221},
}
#: Of patients with cancer, those with cancer in both breasts.
BOTH_BREASTS_GIVEN_CANCER = 6 / CANCER_PATIENTS
#: Of breasts with cancer, the left ones.
LEFT_GIVEN_CANCER = 248 / 492

#: Patients by their number of images.
IMAGES_PER_PATIENT = {
    4: 8233, 5: 1767, 6: 1218, 7: 276, 8: 229, 9: 99, 10: 53, 11: 19, 12: 12, 13: 5, 14: 2,
}  # fmt: skip
#: Images by view.
VIEWS = {
    View.MLO: 27903,
    View.CC: 26765,
    View.AT: 19,
    View.LM: 10,
    View.ML: 8,
    View.LMO: 1,
}
#: Pairs of a breast and one of its views, by their number of images.
BREASTS_IMAGES_OF_A_VIEW = {1: 41166, 2: 6054, 3: 443, 4: 24, 7: 1}

#: Share of patients with an implant, by site.
IMPLANT_BY_SITE = {1: 0.0294, 2: 0.0}
#: Every cancer was biopsied: 0.39 of the biopsies are of cancers.
BIOPSY = 0.0543
INVASIVE_GIVEN_CANCER = 0.7064
DIFFICULT_GIVEN_NO_CANCER = 0.1439

#: BI-RADS where it is known.
BIRADS_SHARES = {"0": 0.3138, "1": 0.6000, "2": 0.0862}
#: All cancers of site 1, whose images are 0.5734 of those with cancer; the rest is blank.
BIRADS_ZERO_GIVEN_CANCER = 0.5734
#: Share of images without a BI-RADS, by site.
BIRADS_BLANK = {1: 0.1966, 2: 0.8979}
#: Share of images without an age, and without a density, by site.
MISSING_AGE = {1: 0.0013, 2: 0.0}
MISSING_DENSITY = {1: 0.0017, 2: 1.0}
