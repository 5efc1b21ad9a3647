"""Whether a sound file stops before its own end, which decoders pass over in silence."""

from __future__ import annotations

from pathlib import Path

MISSING_S = 0.01  # a WAV file that lacks less than this at its end is taken as it is


def ends_early(path: Path) -> bool:
    """True for a WAV or Ogg file that is cut short; other formats are left to their decoders."""
    with open(path, "rb") as file:
        magic = file.read(4)
        if magic == b"RIFF":
            missing, bytes_per_second = _missing_wav_bytes(file.read(1 << 16), path.stat().st_size)
            return missing > max(MISSING_S * bytes_per_second, 1)
        if magic == b"OggS":
            file.seek(max(0, path.stat().st_size - (1 << 17)))  # a page has at most 65,307 bytes
            return not _whole_last_page(file.read())
    return False


def _missing_wav_bytes(header: bytes, size: int) -> tuple[int, int]:
    """By how many bytes the data chunk overruns the file (0 if it was never given a length), and bytes per second."""
    position, bytes_per_second = 8, 0  # `header` starts after "RIFF"
    while position + 8 <= len(header):
        chunk, length = header[position : position + 4], int.from_bytes(header[position + 4 : position + 8], "little")
        if chunk == b"fmt ":
            bytes_per_second = int.from_bytes(header[position + 16 : position + 20], "little")
        if chunk == b"data":
            streamed = length in (0, 0x7FFFFFFF, 0xFFFFFFFF) or length >= 0x7FFFF000
            return (0 if streamed else 4 + position + 8 + length - size), bytes_per_second
        position += 8 + length + length % 2
    return 0, bytes_per_second


def _whole_last_page(tail: bytes) -> bool:
    """Whether the last Ogg page in `tail` is marked as the stream's last and is all there (RFC 3533)."""
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27 or not tail[page + 5] & 4:
        return False
    n_segments = tail[page + 26]
    return len(tail) >= page + 27 + n_segments + sum(tail[page + 27 : page + 27 + n_segments])
