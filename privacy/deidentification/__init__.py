"""What of a patient's identity may not stay in a table or an image, and how it is taken out.

| module | holds |
|---|---|
| `identifiers` | the residual scan: what looks like an identifier, by column and kind |
| `safe_harbor` | the 18 identifiers of 45 CFR 164.514(b)(2), reported item by item |
| `pseudonyms` | keyed names and keyed date shifts in place of a patient's own |
| `generalisation` | ages over 89, ZIP codes, dates |
| `anonymity` | k-anonymity, l-diversity, t-closeness: measured, and enforced by a lattice |
| `dicom` | one DICOM object without its identifiers, or a refusal |

All of it works on values in memory; only the pseudonyms' key is a file. Findings name columns and
bands of counts, never a value.
"""
