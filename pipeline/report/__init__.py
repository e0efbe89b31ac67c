"""What a person looks at: tables of average precisions, pictures, plots (`plots`), pages."""

from pipeline.report.gallery import write_pictures
from pipeline.report.pictures import draw_detections
from pipeline.report.tables import compare_runs, format_ap_table, format_diagnosis

__all__ = [
    "compare_runs",
    "draw_detections",
    "format_ap_table",
    "format_diagnosis",
    "write_pictures",
]
