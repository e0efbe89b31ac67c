"""A model's answers about files that no dataset lists; no store is made.

Files are a folder's, a pattern's, or a prefix's on S3.
"""

from pipeline.streaming.chunks import (
    ChunkSpec,
    ChunkStats,
    Found,
    answer_chunk,
    chunk_name,
    is_done,
    read_chunks,
    schema_of,
)
from pipeline.streaming.listing import Listed, list_images, read
from pipeline.streaming.output import (
    best,
    coco,
    draw,
    require_folder,
    require_form,
    require_writable,
    write,
    write_classes,
)

__all__ = [
    "ChunkSpec",
    "ChunkStats",
    "Found",
    "Listed",
    "answer_chunk",
    "best",
    "chunk_name",
    "coco",
    "draw",
    "is_done",
    "list_images",
    "read",
    "read_chunks",
    "require_folder",
    "require_form",
    "require_writable",
    "schema_of",
    "write",
    "write_classes",
]
