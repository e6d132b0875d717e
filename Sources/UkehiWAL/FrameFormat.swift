// The bytes of one frame: one group commit, the batches of many regions.
//
//   frame      | header 80 | directory, 80 each | bodies | zeros | directory again, if it is long |
//              starts at a block (4 KiB) boundary, ends at one, is written exactly once
//
//   header     | "UKF1" | checksum u32 | frame bytes u32 | flags u32 | lsn u64 | durable lsn u64
//              | segment u64 | incarnation u64 | own offset u64 | previous frame's checksum u32
//              | items u32 | directory checksum u32 | body bytes u32 | 0 u64 |
//   item       | region u64 | kind u8 | flags u8 | 0 u16 | count u32 | first index u64
//              | last term u64 | hard state: term u64, vote u64, commit u64 | body bytes u32
//              | raw bytes u32 | body checksum u32 | 0 u32 | region's previous lsn u64 |
//   body       a run of entry records (UkehiBase/Entry.swift), as they are or as one LZ4 block, or a
//              logical record's payload
//
// Integers are little-endian, checksums CRC32C. The header's covers header bytes 8..<80, and with
// them the directory's, which covers each body's: a frame's header checksum stands for all of it,
// and the next frame names it. A body's checksum is of its bytes as they are stored, and seeded with
// its region and first index.
// "durable lsn" is a promise: that frame and all before it were durable when this one was written.
//
// Changing anything here changes format version 1 (docs/FORMATS.md). Written by FrameAssembly.swift,
// read by FrameReader.swift.

package import UkehiBase

/// What a directory item says about its region.
package enum RecordKind: UInt8, Sendable, Hashable {
    /// Entries from `firstIndex` on, superseding what was there; maybe none, and a hard state alone.
    case append = 1
    /// The log now begins at `firstIndex`; the entry before it had `lastTerm`.
    case compact = 2
    /// The region came to be on this node; the body is the owner's description of it.
    case birth = 3
    /// The log is replaced by a snapshot: it is empty and begins at `firstIndex`.
    case reset = 4
    /// The region is gone from this node; the body is the owner's reason.
    case tombstone = 5
    /// Restates hard state, beginning and birth or tombstone as they are at this place in the log,
    /// so that older segments can go.
    case carry = 6
    /// Says again which entries the region has from `firstIndex` on, `count` of them, for the same
    /// reason; it has others before and behind them still.
    case rewrite = 7
}

/// One directory item.
package struct BatchItem: Hashable, Sendable {
    package var region: RegionID
    package var kind: RecordKind
    package var flags: UInt8 = 0
    package var count: UInt32 = 0
    package var firstIndex: LogIndex = .zero
    package var lastTerm: Term = .zero
    package var hardState: HardState = .empty
    package var bodyBytes: UInt32 = 0
    package var rawBytes: UInt32 = 0
    package var bodyChecksum: UInt32 = 0
    package var previousLSN: UInt64 = 0

    static let hasHardState: UInt8 = 1
    /// The body is an LZ4 block of `rawBytes` when decompressed.
    static let isCompressed: UInt8 = 2

    package var hasHardState: Bool { flags & BatchItem.hasHardState != 0 }
    package var isCompressed: Bool { flags & BatchItem.isCompressed != 0 }
    /// Whether the body is entries, from ``firstIndex`` on.
    package var holdsEntries: Bool { count > 0 }
    /// Just past the last index of an append or a rewrite.
    package var endIndex: LogIndex { firstIndex + UInt64(count) }

    init(region: RegionID, kind: RecordKind) {
        self.region = region
        self.kind = kind
    }
}

enum FrameFormat {
    static let blockBytes = 4096
    static let headerBytes = 80
    static let itemBytes = 80
    /// "UKF1" as a little-endian integer.
    static let magic: UInt32 = 0x3146_4b55
    /// An empty frame that only claims what is durable.
    static let claimFlag: UInt32 = 1
    static let repeatedFlag: UInt32 = 2

    /// No log comes near; what is below can be added up without overflow.
    static let numberLimit: UInt64 = 1 << 62

    static func roundUp(_ byteCount: Int) -> Int {
        (byteCount + blockBytes - 1) & ~(blockBytes - 1)
    }

    /// Whether the directory is long enough to be kept twice.
    static func repeats(itemCount: Int) -> Bool {
        headerBytes + itemCount * itemBytes > blockBytes
    }

    /// The size of a frame; every frame has exactly the size its contents need.
    static func frameBytes(itemCount: Int, bodyBytes: Int) -> Int {
        let directory = itemCount * itemBytes
        return roundUp(
            headerBytes + directory + bodyBytes + (repeats(itemCount: itemCount) ? directory : 0))
    }

    /// The seed of a body's checksum: the same bytes under another region or index do not pass.
    static func bodySeed(region: RegionID, firstIndex: LogIndex) -> UInt32 {
        var pair = (region.rawValue.littleEndian, firstIndex.rawValue.littleEndian)
        return withUnsafeBytes(of: &pair) { CRC32C.checksum($0) }
    }
}

/// The fixed part of a frame.
package struct FrameHeader: Hashable, Sendable {
    package var checksum: UInt32 = 0
    package var frameBytes: Int = 0
    package var flags: UInt32 = 0
    package var lsn: UInt64 = 0
    package var durableLSN: UInt64 = 0
    package var segment: UInt64 = 0
    package var incarnation: UInt64 = 0
    package var offset: UInt64 = 0
    package var previousChecksum: UInt32 = 0
    package var itemCount: Int = 0
    package var directoryChecksum: UInt32 = 0
    package var bodyBytes: Int = 0

    package var isClaim: Bool { flags & FrameFormat.claimFlag != 0 }
    var directoryBytes: Int { itemCount * FrameFormat.itemBytes }
    var bodyStart: Int { FrameFormat.headerBytes + directoryBytes }
}

// MARK: - Encoding

extension FrameHeader {
    /// Writes the header and sets ``checksum``.
    mutating func encode(to base: UnsafeMutableRawPointer) {
        base.put(FrameFormat.magic, at: 0)
        base.put(UInt32(frameBytes), at: 8)
        base.put(flags, at: 12)
        base.put(lsn, at: 16)
        base.put(durableLSN, at: 24)
        base.put(segment, at: 32)
        base.put(incarnation, at: 40)
        base.put(offset, at: 48)
        base.put(previousChecksum, at: 56)
        base.put(UInt32(itemCount), at: 60)
        base.put(directoryChecksum, at: 64)
        base.put(UInt32(bodyBytes), at: 68)
        base.put(UInt64(0), at: 72)
        checksum = CRC32C.checksum(
            UnsafeRawBufferPointer(start: base + 8, count: FrameFormat.headerBytes - 8))
        base.put(checksum, at: 4)
    }

    /// The header at `base`, which has at least `headerBytes`; nil unless its checksum is right and
    /// its lengths agree with each other.
    static func decode(_ base: UnsafeRawPointer) -> FrameHeader? {
        guard base.get(UInt32.self, at: 0) == FrameFormat.magic else { return nil }
        var header = FrameHeader()
        header.checksum = base.get(UInt32.self, at: 4)
        let covered = UnsafeRawBufferPointer(start: base + 8, count: FrameFormat.headerBytes - 8)
        guard CRC32C.checksum(covered) == header.checksum else { return nil }
        header.frameBytes = Int(base.get(UInt32.self, at: 8))
        header.flags = base.get(UInt32.self, at: 12)
        header.lsn = base.get(UInt64.self, at: 16)
        header.durableLSN = base.get(UInt64.self, at: 24)
        header.segment = base.get(UInt64.self, at: 32)
        header.incarnation = base.get(UInt64.self, at: 40)
        header.offset = base.get(UInt64.self, at: 48)
        header.previousChecksum = base.get(UInt32.self, at: 56)
        header.itemCount = Int(base.get(UInt32.self, at: 60))
        header.directoryChecksum = base.get(UInt32.self, at: 64)
        header.bodyBytes = Int(base.get(UInt32.self, at: 68))
        return header.lengthsAgree ? header : nil
    }

    private var lengthsAgree: Bool {
        // Each factor is below 2^32, so nothing here overflows 64 bits.
        frameBytes
            == FrameFormat.frameBytes(itemCount: itemCount, bodyBytes: bodyBytes)
            && flags & ~(FrameFormat.claimFlag | FrameFormat.repeatedFlag) == 0
            && (flags & FrameFormat.repeatedFlag != 0) == FrameFormat.repeats(itemCount: itemCount)
            && durableLSN < lsn && lsn < FrameFormat.numberLimit
    }
}

extension BatchItem {
    func encode(to base: UnsafeMutableRawPointer) {
        base.put(region.rawValue, at: 0)
        base.put(kind.rawValue, at: 8)
        base.put(flags, at: 9)
        base.put(UInt16(0), at: 10)
        base.put(count, at: 12)
        base.put(firstIndex.rawValue, at: 16)
        base.put(lastTerm.rawValue, at: 24)
        base.put(hardState.term.rawValue, at: 32)
        base.put(hardState.vote.rawValue, at: 40)
        base.put(hardState.commit.rawValue, at: 48)
        base.put(bodyBytes, at: 56)
        base.put(rawBytes, at: 60)
        base.put(bodyChecksum, at: 64)
        base.put(UInt32(0), at: 68)
        base.put(previousLSN, at: 72)
    }

    static func setPreviousLSN(_ lsn: UInt64, in base: UnsafeMutableRawPointer) {
        base.put(lsn, at: 72)
    }

    /// The item at `base`, which has at least `itemBytes`; nil when no writer makes such an item.
    static func decode(_ base: UnsafeRawPointer) -> BatchItem? {
        guard let kind = RecordKind(rawValue: base.get(UInt8.self, at: 8)) else { return nil }
        var item = BatchItem(region: RegionID(base.get(UInt64.self, at: 0)), kind: kind)
        item.flags = base.get(UInt8.self, at: 9)
        item.count = base.get(UInt32.self, at: 12)
        item.firstIndex = LogIndex(base.get(UInt64.self, at: 16))
        item.lastTerm = Term(base.get(UInt64.self, at: 24))
        item.hardState = HardState(
            term: Term(base.get(UInt64.self, at: 32)), vote: PeerID(base.get(UInt64.self, at: 40)),
            commit: LogIndex(base.get(UInt64.self, at: 48)))
        item.bodyBytes = base.get(UInt32.self, at: 56)
        item.rawBytes = base.get(UInt32.self, at: 60)
        item.bodyChecksum = base.get(UInt32.self, at: 64)
        item.previousLSN = base.get(UInt64.self, at: 72)
        return item.isPossible ? item : nil
    }

    private var isPossible: Bool {
        guard flags & ~(BatchItem.hasHardState | BatchItem.isCompressed) == 0,
            isCompressed ? isPossiblyCompressed : rawBytes == bodyBytes
        else { return false }
        // Indexes stay far enough from the end of 64 bits that sums never overflow.
        guard firstIndex.rawValue < FrameFormat.numberLimit else { return false }
        switch kind {
        case .append:
            let smallest = UInt64(count) * UInt64(Entry.recordHeaderBytes)
            return UInt64(rawBytes) >= smallest && (count > 0 || bodyBytes == 0)
                && (count == 0 || firstIndex > .zero)
        case .rewrite:
            let smallest = UInt64(count) * UInt64(Entry.recordHeaderBytes)
            return UInt64(rawBytes) >= smallest && count > 0 && firstIndex > .zero
                && !hasHardState
        case .compact, .reset: return count == 0 && bodyBytes == 0 && firstIndex > .zero
        case .birth, .tombstone: return count == 0
        case .carry: return count == 0 && bodyBytes >= 1 && firstIndex > .zero
        }
    }

    /// A reader makes room by what this lets pass: a lie costs at most 255 times the bytes that are
    /// really there.
    private var isPossiblyCompressed: Bool {
        (kind == .append || kind == .rewrite) && count > 0 && rawBytes > bodyBytes
            && rawBytes <= UInt32(WALLimits.maxBatchBytes)
            && UInt64(rawBytes) <= UInt64(bodyBytes) * BodyCompression.maxRatio
    }
}

// MARK: - Unaligned little-endian access

extension UnsafeMutableRawPointer {
    @inline(__always)
    func put<T: FixedWidthInteger>(_ value: T, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
    }
}

extension UnsafeRawPointer {
    @inline(__always)
    func get<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type, at offset: Int) -> T {
        T(littleEndian: loadUnaligned(fromByteOffset: offset, as: T.self))
    }
}
