// The bytes behind a sealed segment's end: an index of its frames, so that opening a log need not
// read the bodies.
//
//   footer    | header 72 | a record for each frame | zeros up to a block |   at the stated end
//   header    | "UKEHFOOT" | checksum u32 | version u32 | segment u64 | incarnation u64
//             | own offset u64 | last lsn u64 | last frame's checksum u32 | frames u32
//             | record bytes u64 | records' checksum u32 | 0 u32 |
//   record    | the frame's header and directory, as they are | detail bytes u32 | details |
//   detail    | item's position u32 | bytes u32 | bytes |
//   bytes     of an append or rewrite whose entries are of several terms: runs, | index u64 | term u64 |
//             of a logical record: its body
//
// A footer is never needed and never believed alone. It stands where nothing is part of the log: a
// reader that does not know it passes it by, and one that finds anything wrong with it reads the
// segment. Its frame headers are the frames' own: they name segment, incarnation and place, each
// names the one before, and the last must be the one that the successor names. So what a file held
// in an earlier life cannot pass for it, and no record of it can say other than the frame did.
//
// Changing anything here changes footer version 1 (docs/FORMATS.md). Collected by FooterBuffer.swift,
// checked by FooterReader.swift.

import UkehiBase

enum FooterFormat {
    static let version: UInt32 = 1
    static let headerBytes = 72
    /// "UKEHFOOT" as a little-endian integer.
    static let magic: UInt64 = 0x544f_4f46_4845_4b55
    static let detailHeaderBytes = 8
    static let runBytes = 16

    /// What a segment of this capacity may give to its footer. Where entries are small, their
    /// directories are a large part of the log: writing them twice costs more than reading all once.
    static func limit(capacity: UInt64) -> Int {
        max(Int(clamping: capacity / 8), FrameFormat.blockBytes)
    }

    /// The detail of an append with that many runs of terms, in bytes.
    static func detailBytes(runs: Int) -> Int {
        runs > 1 ? detailHeaderBytes + runs * runBytes : 0
    }

    /// The detail of a logical record with that many bytes of body.
    static func detailBytes(body: Int) -> Int { body > 0 ? detailHeaderBytes + body : 0 }
}

/// Whose footer it is, and what it must end with.
struct FooterHeader: Hashable, Sendable {
    var segment: UInt64
    var incarnation: UInt64
    /// The footer's own offset: where the segment's frames end.
    var offset: UInt64
    var lastLSN: UInt64
    var lastChecksum: UInt32
    var frames: UInt32
    var recordBytes: UInt64
    var recordChecksum: UInt32

    func encode(to base: UnsafeMutableRawPointer) {
        base.put(FooterFormat.magic, at: 0)
        base.put(FooterFormat.version, at: 12)
        base.put(segment, at: 16)
        base.put(incarnation, at: 24)
        base.put(offset, at: 32)
        base.put(lastLSN, at: 40)
        base.put(lastChecksum, at: 48)
        base.put(frames, at: 52)
        base.put(recordBytes, at: 56)
        base.put(recordChecksum, at: 64)
        base.put(UInt32(0), at: 68)
        base.put(FooterHeader.checksum(base), at: 8)
    }

    /// The header at `base`, which has at least `headerBytes`; nil if it is none, or another
    /// version's.
    static func decode(_ base: UnsafeRawPointer) -> FooterHeader? {
        guard base.get(UInt64.self, at: 0) == FooterFormat.magic,
            base.get(UInt32.self, at: 8) == checksum(base),
            base.get(UInt32.self, at: 12) == FooterFormat.version
        else { return nil }
        return FooterHeader(
            segment: base.get(UInt64.self, at: 16), incarnation: base.get(UInt64.self, at: 24),
            offset: base.get(UInt64.self, at: 32), lastLSN: base.get(UInt64.self, at: 40),
            lastChecksum: base.get(UInt32.self, at: 48), frames: base.get(UInt32.self, at: 52),
            recordBytes: base.get(UInt64.self, at: 56),
            recordChecksum: base.get(UInt32.self, at: 64))
    }

    private static func checksum(_ base: UnsafeRawPointer) -> UInt32 {
        CRC32C.checksum(
            UnsafeRawBufferPointer(start: base + 12, count: FooterFormat.headerBytes - 12))
    }
}
