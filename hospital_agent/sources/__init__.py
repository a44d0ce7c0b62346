"""Where a hospital's patients come from: one module for each kind of source.

| module | reads |
|---|---|
| `source` | what all of them give: columns by name, rows of texts in chunks |
| `csv_file`, `parquet` | a table in a file |
| `sql` | a query on a database |
| `omop` | the OMOP Common Data Model, by concept ids |
| `fhir` | FHIR R4 Bundles and NDJSON, by codes |
| `dicom` | a folder of images with a table of labels |
| `opening` | which of them an address is |
"""
