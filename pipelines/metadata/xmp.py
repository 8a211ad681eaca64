"""Our JSON as a property in XMP, where JPEG and WebP keep what programs say of a picture.

Not EXIF's ImageDescription, which photo viewers show as the picture's title, and which a JPEG cuts at 64 KiB:
XMP may go on in further segments (XMP specification part 3, section 1.1.3.1, extended XMP).
"""

import hashlib
import re
import struct
from collections.abc import Sequence
from html import escape, unescape

HEADER, EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
MAX_PACKET_BYTES = 65_000  # a segment of a JPEG holds 65,533 with the header
MAX_EXTENDED_BYTES = 2 * 2**20
_SETTINGS = re.compile(rb"<ls:settings>([^<]*)</ls:settings>")
_GUID = re.compile(rb"<xmpNote:HasExtendedXMP>([0-9A-F]{32})</xmpNote:HasExtendedXMP>")


def make_packet(text: str) -> bytes:
    """An XMP packet that holds `text`, which must be ASCII, as JSON can be."""
    return _packet(f"<ls:settings>{escape(text, quote=False)}</ls:settings>")


def make_segments(text: str) -> bytes:
    """The APP1 segments of a JPEG that hold `text`: one, or a short one and the rest of it."""
    packet = make_packet(text)
    if len(packet) <= MAX_PACKET_BYTES:
        return _segment(HEADER + packet)
    guid = hashlib.md5(packet, usedforsecurity=False).hexdigest().upper().encode()  # the specification's
    note = f"<xmpNote:HasExtendedXMP>{guid.decode()}</xmpNote:HasExtendedXMP>"
    segments = [_segment(HEADER + _packet(note))]
    for offset in range(0, len(packet), MAX_PACKET_BYTES):
        place = guid + struct.pack(">II", len(packet), offset)
        segments.append(_segment(EXTENSION + place + packet[offset : offset + MAX_PACKET_BYTES]))
    return b"".join(segments)


def read_packet(packet: bytes, segments: Sequence[bytes] = ()) -> str | None:
    """The text that `make_segments` wrote, None if there is none; `segments` are those of the extension."""
    if guid := _GUID.search(packet[:MAX_PACKET_BYTES]):
        place = len(EXTENSION) + len(guid[1])
        parts = {
            struct.unpack(">I", segment[place + 4 : place + 8])[0]: segment[place + 8 :]
            for segment in segments
            if segment.startswith(EXTENSION + guid[1]) and len(segment) > place + 8
        }
        if sum(map(len, parts.values())) > MAX_EXTENDED_BYTES:
            return None
        packet = b"".join(parts[offset] for offset in sorted(parts))
    found = _SETTINGS.search(packet[:MAX_EXTENDED_BYTES])
    return None if found is None else unescape(found[1].decode("utf-8", "replace"))


def _packet(inside: str) -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:ls="urn:latent-studio:settings" xmlns:xmpNote="http://ns.adobe.com/xmp/note/">{inside}'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def _segment(data: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data
