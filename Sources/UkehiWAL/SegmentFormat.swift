// The bytes of a segment file, and the names of the files in the log's directory.
//
//   segment   | header block | the same again | frame | frame | ... | zeros up to the capacity |
//   header    | "UKEHIWAL" | checksum u32 | version u32 | log u64 | segment u64 | incarnation u64
//             | first lsn u64 | capacity u64 | flags u32 | predecessor's last checksum u32
//             | predecessor: segment u64, end offset u64, last lsn u64 |  then zeros
//
//   directory   0000000000000001.wal ...   segments, by id in hexadecimal, consecutive
//               next.tmp                   the segment being filled with zeros; no part of the log
//               reserve                    blocks for a start on a full volume; no part of the log
//               mark                       first and last segment id (LogMark.swift)
//               lock                       held by the process that writes here
//
// The header is written and synced before the file gets its name, and its name is durable before
// the first frame is written: a segment without a valid header is corruption, never a crash's doing.
// It states where its predecessor ends; what lies behind a stated end is never read again.

import UkehiBase

/// Who a segment is and where its predecessor ended.
package struct SegmentHeader: Hashable, Sendable {
    /// The log it belongs to: random, fixed when the directory was made.
    package var log: UInt64
    package var segment: UInt64
    /// Random for each life of a file, and repeated in each of its frames.
    package var incarnation: UInt64
    package var firstLSN: UInt64
    /// What the file is filled up to, in bytes.
    package var capacity: UInt64
    /// Whether the file had its full size before its first frame; then a shorter one was truncated.
    package var isAllocated: Bool
    /// Whether bodies in it may be compressed; a reader that knows nothing of that must not read it.
    package var mayHoldCompressed = false
    /// The same of records that say entries again.
    package var mayHoldRewrites = false
    /// 0: the first of its log.
    package var predecessor: UInt64
    package var predecessorEnd: UInt64
    package var predecessorLastLSN: UInt64
    package var predecessorChecksum: UInt32
}

enum SegmentFormat {
    static let version: UInt32 = 1
    static let headerBytes = 88
    /// Where the first frame stands, behind both copies of the header.
    static let firstFrameOffset = 2 * FrameFormat.blockBytes
    /// "UKEHIWAL" as a little-endian integer.
    static let magic: UInt64 = 0x4c41_5749_4845_4b55
    static let allocatedFlag: UInt32 = 1
    static let compressedFlag: UInt32 = 4
    static let rewritesFlag: UInt32 = 8
    static let knownFlags = allocatedFlag | compressedFlag | rewritesFlag
}

extension SegmentHeader {
    /// Both copies, in `firstFrameOffset` bytes at `base`.
    func encode(to base: UnsafeMutableRawPointer) {
        base.initializeMemory(
            as: UInt8.self, repeating: 0, count: SegmentFormat.firstFrameOffset)
        base.put(SegmentFormat.magic, at: 0)
        base.put(SegmentFormat.version, at: 12)
        base.put(log, at: 16)
        base.put(segment, at: 24)
        base.put(incarnation, at: 32)
        base.put(firstLSN, at: 40)
        base.put(capacity, at: 48)
        base.put(flags, at: 56)
        base.put(predecessorChecksum, at: 60)
        base.put(predecessor, at: 64)
        base.put(predecessorEnd, at: 72)
        base.put(predecessorLastLSN, at: 80)
        let covered = UnsafeRawBufferPointer(
            start: base + 12, count: SegmentFormat.headerBytes - 12)
        base.put(CRC32C.checksum(covered), at: 8)
        (base + FrameFormat.blockBytes).copyMemory(
            from: base, byteCount: SegmentFormat.headerBytes)
    }

    private var flags: UInt32 {
        (isAllocated ? SegmentFormat.allocatedFlag : 0)
            | (mayHoldCompressed ? SegmentFormat.compressedFlag : 0)
            | (mayHoldRewrites ? SegmentFormat.rewritesFlag : 0)
    }

    /// What one copy says.
    enum Copy {
        case valid(SegmentHeader)
        case newerVersion(UInt32)
        case invalid
    }

    /// The copy at `base`, which has at least `headerBytes`.
    static func decode(_ base: UnsafeRawPointer) -> Copy {
        guard base.get(UInt64.self, at: 0) == SegmentFormat.magic else { return .invalid }
        let covered = UnsafeRawBufferPointer(
            start: base + 12, count: SegmentFormat.headerBytes - 12)
        guard CRC32C.checksum(covered) == base.get(UInt32.self, at: 8) else { return .invalid }
        let version = base.get(UInt32.self, at: 12)
        let flags = base.get(UInt32.self, at: 56)
        guard version == SegmentFormat.version, flags & ~SegmentFormat.knownFlags == 0 else {
            return .newerVersion(version)
        }
        let header = SegmentHeader(
            log: base.get(UInt64.self, at: 16), segment: base.get(UInt64.self, at: 24),
            incarnation: base.get(UInt64.self, at: 32), firstLSN: base.get(UInt64.self, at: 40),
            capacity: base.get(UInt64.self, at: 48),
            isAllocated: flags & SegmentFormat.allocatedFlag != 0,
            mayHoldCompressed: flags & SegmentFormat.compressedFlag != 0,
            mayHoldRewrites: flags & SegmentFormat.rewritesFlag != 0,
            predecessor: base.get(UInt64.self, at: 64),
            predecessorEnd: base.get(UInt64.self, at: 72),
            predecessorLastLSN: base.get(UInt64.self, at: 80),
            predecessorChecksum: base.get(UInt32.self, at: 60))
        return header.isPossible ? .valid(header) : .invalid
    }

    private var isPossible: Bool {
        // Offsets in a segment are 32 bits wide.
        (1...UInt64(UInt32.max)).contains(segment) && capacity <= UInt64(UInt32.max)
            && firstLSN < FrameFormat.numberLimit && firstLSN > predecessorLastLSN
            && predecessorEnd <= UInt64(UInt32.max)
    }
}

/// The names in a log's directory.
package enum LogNames {
    static let next = "next.tmp"
    static let reserve = "reserve"
    static let mark = "mark"
    static let lock = "lock"
    /// All but those of segments.
    static let others = [next, reserve, mark, lock]

    static func segment(_ id: UInt64) -> String {
        let digits = String(id, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits + ".wal"
    }

    /// The id in a segment's name; nil for any other name.
    static func segmentID(_ name: String) -> UInt64? {
        guard name.utf8.count == 20, name.hasSuffix(".wal"),
            let id = UInt64(name.dropLast(4), radix: 16), name == segment(id),
            (1...UInt64(UInt32.max)).contains(id)
        else { return nil }
        return id
    }

    static func join(_ directory: String, _ name: String) -> String {
        directory.hasSuffix("/") ? directory + name : directory + "/" + name
    }

    /// The directory a path is in.
    package static func parent(_ path: String) -> String {
        var text = Substring(path)
        while text.count > 1, text.hasSuffix("/") { text.removeLast() }
        guard let slash = text.lastIndex(of: "/") else { return "." }
        return slash == text.startIndex ? "/" : String(text[..<slash])
    }
}
