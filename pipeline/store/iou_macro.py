"""Overlap of two boxes in SQL, for DuckDB to reckon by itself."""


def _iou() -> str:
    """Return the SQL that makes `iou`, of SPEC §1: in float64, as `pipeline.boxes.iou`."""
    corners = (
        "x_min_a",
        "y_min_a",
        "x_max_a",
        "y_max_a",
        "x_min_b",
        "y_min_b",
        "x_max_b",
        "y_max_b",
    )
    x0, y0, x1, y1, x2, y2, x3, y3 = (f"{name}::DOUBLE" for name in corners)

    def area(left: str, top: str, right: str, bottom: str) -> str:
        return f"greatest({right} - {left}, 0) * greatest({bottom} - {top}, 0)"

    near = f"least({x1}, {x3})", f"least({y1}, {y3})"
    shared = area(f"greatest({x0}, {x2})", f"greatest({y0}, {y2})", *near)
    union = f"{area(x0, y0, x1, y1)} + {area(x2, y2, x3, y3)} - {shared}"
    # greatest() and least() pass over NULL.
    absent = f"{' + '.join(corners)} IS NULL"
    return (
        f"CREATE MACRO iou({', '.join(corners)}) AS CASE WHEN {absent} THEN NULL "
        f"ELSE coalesce(({shared}) / nullif({union}, 0), 0) END"
    )


IOU = _iou()
